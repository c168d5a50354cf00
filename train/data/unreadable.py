"""Which file is to blame when a batch could not be read."""

import dataclasses
import pathlib

from train.data import folder, tfrecords
from train.data.file_kinds import kind_of
from train.settings import ON_DISK

__all__ = ["find_unreadable"]


def find_unreadable(settings):
    """After a failure: what is wrong with the first image that cannot be read, or None."""
    if settings.data not in ON_DISK:
        return None
    kind = kind_of(pathlib.Path(settings.dataroot))
    looks = {"folder": folder.find_unreadable, "tfrecords": tfrecords.find_damaged}.get(kind)
    return looks and looks(dataclasses.replace(settings, data=kind))
