"""Data that a model was not trained on, as the model sees its own: `ood` compares the two."""

import dataclasses
import pathlib

import tensorflow as tf

from train.data.file_kinds import kind_of
from train.data.pipeline import batches, describe, load, opened
from train.data.source import SPLITS
from train.data.trained import load_trained
from train.settings import DATA, ON_DISK, TOYS

__all__ = ["load_outside"]


def load_outside(settings, most):
    """Batches of --data_out, `[N, ...]`, as `load` gives those of the run's own data.

    Images are brought to the size of the model's and, where that is grey or in colour, to grey or
    to three channels; then they have the bits and the noise of the run. Tables are standardised as
    the run's was, their columns found by name.

    Args:
      settings: `Settings` of a run.
      most: how many examples at most: first those of the test part, then the others.

    Returns:
      A `tf.data.Dataset`.

    Raises:
      ValueError or OSError: what --data_out names is missing, of another kind, or the run's own.
    """
    inside, other = describe(settings), _named(settings)
    if _path(other) == _path(settings) and (other.dataroot or other.data == settings.data):
        raise ValueError("--data_out must be other data than that of the run. "
                         f"Received: --data_out={settings.data_out}")
    # A folder is brought to size where it is read, and photographs are cut to it.
    image = inside.kind == "image"
    side = max(inside.event_shape[:2]) if image and other.data in ("folder", "photos") else 0
    other = dataclasses.replace(other, imagesize=side)
    trained = load_trained(settings)
    source = opened(other, trained if other.data == "csv" else None)
    if source.kind != inside.kind or (settings.data == "csv") != (other.data == "csv"):
        raise ValueError(f"--data_out must be of the same kind as the data of the run, --data="
                         f"{settings.data}. Received: --data_out={settings.data_out}, --data="
                         f"{other.data}")
    if source.kind == "toy":
        return load(other, "test")
    if not image and source.event_shape != inside.event_shape:
        raise ValueError(f"--data_out must have rows of {inside.event_shape[0]} numbers, as the "
                         f"model. Received: --data_out={settings.data_out}, of "
                         f"{source.event_shape[0]}")
    return _of_all_parts(settings, source, inside.event_shape, most)


def _named(settings):
    """`Settings` whose --data and --dataroot are what --data_out says."""
    name = settings.data_out
    if name in DATA and name not in ON_DISK:
        return dataclasses.replace(settings, data=name, dataroot="")
    path = pathlib.Path(name)
    if not path.exists():
        names = ", ".join(n for n in DATA if n not in (*ON_DISK, *TOYS))
        raise FileNotFoundError(f"--data_out must be a data set ({names}, ...), a folder or a file "
                                f"that is there. Received: --data_out={name}")
    return dataclasses.replace(settings, data=kind_of(path), dataroot=name)


def _path(settings):
    return pathlib.Path(settings.dataroot).resolve() if settings.dataroot else None


def _of_all_parts(settings, source, event_shape, most):
    found = None
    for split in reversed(SPLITS):
        count = min(most, source.counts[split])
        part = dataclasses.replace(
            source, event_shape=event_shape, counts={"test": count},
            fetch={"test": _as_the_model_sees(source, split, event_shape)})
        most -= count
        rows = batches(settings, part, "test")
        found = rows if found is None else found.concatenate(rows)
    return found


def _as_the_model_sees(source, split, event_shape):
    fetch = source.fetch[split]
    if source.event_shape == event_shape:
        return fetch
    height, width, channels = event_shape

    def fetched(indices):
        images = tf.cast(fetch(indices), tf.float32)
        if channels == 1 and source.event_shape[2] == 3:
            images = tf.image.rgb_to_grayscale(images)
        smaller = height < source.event_shape[0]
        # Area averaging is what does not alias when an image is made small.
        method = tf.image.ResizeMethod.AREA if smaller else tf.image.ResizeMethod.BILINEAR
        images = tf.cast(tf.round(tf.image.resize(images, [height, width], method)), tf.uint8)
        return tf.repeat(images, 3, axis=3) if images.shape[3] < channels else images

    return fetched
