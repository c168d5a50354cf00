"""The data sets of images of the paper, from whatever files somebody has of them."""

import dataclasses
import functools
import importlib
import pathlib

import numpy as np
import tensorflow as tf

from train.data.file_kinds import kind_of
from train.data.source import warn

__all__ = ["source"]

_SIDES = {"celebahq": 256, "celeba_5bit": 64, "imagenet32": 32, "imagenet64": 64}
# Training images (with those of validation, which are cut from them here) and test images.
_VERSIONS = {
    (1281149, 49999): "the older downsampled ImageNet (van den Oord et al. 2016; withdrawn), that "
                      "of the published bits/dim",
    (1281167, 50000): "the newer downsampled ImageNet (Chrabaszcz et al. 2017; averages of boxes), "
                      "which is another data set: its bits/dim are no match for the published ones"}


def source(settings):
    """Images `[S, S, 3]` of --data at --dataroot: a folder of images, arrays, or TFRecords.

    Images of CelebA at 5 bits whose levels are 0 to 31 have 5 bits; of all others the upper bits
    of 8 are taken, as --nbits says.

    Raises:
      ValueError: the images are of another size, or grey.
    """
    side = _SIDES[settings.data]
    if settings.imagesize not in (0, side):
        raise ValueError(f"--imagesize must be 0 or {side} for --data={settings.data}. "
                         f"Received: --imagesize={settings.imagesize}")
    kind = kind_of(pathlib.Path(settings.dataroot))
    if kind == "csv":
        raise ValueError(f"--dataroot={settings.dataroot} is a table of text, and --data="
                         f"{settings.data} is of images")
    found = importlib.import_module(f"train.data.{kind}").source(
        dataclasses.replace(settings, data=kind, imagesize=side))
    if found.event_shape != (side, side, 3):
        raise ValueError(f"--dataroot={settings.dataroot} has examples of "
                         f"{list(found.event_shape)}, and --data={settings.data} is of "
                         f"{[side, side, 3]}")
    if settings.data.startswith("imagenet"):
        _tell_version(settings, found.counts)
    return _of_5_bits(found) if settings.data == "celeba_5bit" else found


def _tell_version(settings, counts):
    known = _VERSIONS.get((counts["train"] + counts["validation"], counts["test"]))
    total, test = counts["train"] + counts["validation"], counts["test"]
    warn(f"--data={settings.data}: {total} and {test} images: " + (known or (
        "neither the older downsampled ImageNet (" + ") nor the newer one (".join(
            f"{a} and {b}" for a, b in _VERSIONS) + "): bits/dim are not those of either")))


def _of_5_bits(found, most=64):
    """The source, its levels spread over 8 bits if they are 0 to 31."""
    count = found.counts["train"]
    indices = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    if found.fetch["train"](tf.constant(indices)).numpy().max() > 31:
        return found
    return dataclasses.replace(found, nbits=5, fetch={
        split: functools.partial(_spread, fetch) for split, fetch in found.fetch.items()})


def _spread(fetch, indices):
    levels = fetch(indices)
    tf.debugging.assert_less(levels, tf.constant(32, tf.uint8), "an image has levels above 31, "
                             "and others of the same data have 5 bits")
    return levels * 8
