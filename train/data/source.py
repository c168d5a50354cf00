"""What a source of data tells, and how whole arrays are parted."""

import dataclasses
import functools
import sys
import typing

import numpy as np
import tensorflow as tf

from train.data.scaler import Scaler

__all__ = ["SPLITS", "Source", "beside", "cut_validation", "from_arrays", "split_by_seed",
           "warn"]

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set in three parts that share no example.

    Attributes:
      kind: "image" (uint8 levels of 8 bits, `[H, W, C]`), "vector" or "toy".
      event_shape: shape of one example.
      counts: examples of each part; None for a toy density, which has no end.
      fetch: for each part, `indices [B] -> [B, ...]` in TensorFlow operations.
      nbits: the most bits of a pixel that the source has; None if not of images.
      entropy: of a toy density, nats, where it is known.
      scaler: of a table, what its rows are standardised with.
      context_shape: of a conditional run, shape of one context, `()` of a label that is not one;
        None without.
      fetch_context: for each part, `indices [B] -> [B, ...]`.
      context_scaler: of a table, that of the columns that are the context.
      classes: what the classes are called, in order, where labels are asked for.
    """

    kind: str
    event_shape: tuple
    counts: dict
    fetch: dict[str, typing.Callable]
    nbits: int | None = None
    entropy: float | None = None
    scaler: Scaler | None = None
    context_shape: tuple | None = None
    fetch_context: dict[str, typing.Callable] = dataclasses.field(default_factory=dict)
    context_scaler: Scaler | None = None
    classes: tuple | None = None


def cut_validation(count, settings):
    """Indices of the training part of `count` examples that come without validation, and of that.

    In an order from `--seed`.
    """
    order = np.random.RandomState(settings.seed).permutation(count)
    keep = count - max(1, round(count * settings.val_fraction))
    return order[:keep], order[keep:]


def split_by_seed(count, settings, name):
    """Indices of the three parts of `count` examples, by a permutation from `--seed`."""
    order = np.random.RandomState(settings.seed).permutation(count)
    test = round(count * settings.test_fraction)
    validation = round(count * settings.val_fraction)
    if min(test, validation, count - test - validation) < 1:
        raise ValueError(f"{name}: {count} examples are too few for three parts with "
                         f"--val_fraction={settings.val_fraction} "
                         f"--test_fraction={settings.test_fraction}")
    return {"train": order[:count - test - validation],
            "validation": order[count - test - validation:count - test],
            "test": order[count - test:]}


def from_arrays(kind, parts, contexts=None, **kwargs):
    """A `Source` of arrays in memory: `parts` maps each split to `[n, ...]`, `contexts` too."""
    kwargs |= {} if contexts is None else beside(contexts)
    return Source(kind, tuple(parts["train"].shape[1:]),
                  {split: len(array) for split, array in parts.items()}, _fetch(parts), **kwargs)


def beside(contexts):
    """Keyword arguments of a `Source` for what is beside each example, `[n, ...]` of each part."""
    return {"context_shape": tuple(contexts["train"].shape[1:]), "fetch_context": _fetch(contexts)}


def _fetch(arrays):
    return {split: functools.partial(tf.gather, tf.constant(array))
            for split, array in arrays.items()}


def warn(text):
    """Says what is done to data, or what is odd about it, and goes on."""
    print(f"warning: {text}", file=sys.stderr)
