"""Labels of examples: which classes there are, and what a model is given of them."""

import functools

import numpy as np
import tensorflow as tf

from train.data.scaler import listed
from train.data.source import beside
from train.settings import wants_labels

__all__ = ["of_labels", "whole_numbers"]


def of_labels(where, labels, settings, classes=None):
    """Keyword arguments of a `Source`: the classes, and what is beside each example.

    That is the number of its class, from 0, or, of a conditional run, `[classes]`, one-hot.

    Args:
      where: what has the labels, for errors.
      labels: for each part an array `[n]` of whole numbers or of texts; None, if none are wanted.
      settings: of which --task and --conditional count, and `classes`: those of a trained model.
      classes: all that there are; default those of the training part, in order.

    Raises:
      ValueError: there are fewer than two classes, or another part has one that is not known.
    """
    if not wants_labels(settings):
        return {}
    own = settings.classes or tuple(map(str, classes or np.unique(labels["train"]).tolist()))
    if len(own) < 2:
        raise ValueError(f"{where}: there must be at least two classes in the training part. Found "
                         f"{listed(own)}")
    places = {name: i for i, name in enumerate(own)}
    codes = {}
    for split, given in labels.items():
        names = [str(name) for name in given.tolist()]
        if unknown := sorted(set(names) - set(own)):
            raise ValueError(
                f"{where}: the {split} part must have classes of the training part "
                f"{'of the model ' if settings.classes else ''}alone, {listed(own)}. Found "
                f"{listed(unknown)}")
        codes[split] = np.array([places[name] for name in names])
    found = beside(codes)
    if settings.task == "density":
        found = {"context_shape": (len(own),), "fetch_context": {
            split: functools.partial(_one_hot, fetch, len(own))
            for split, fetch in found["fetch_context"].items()}}
    return {"classes": own, **found}


def _one_hot(fetch, count, indices):
    """Made of a batch: of all examples of many classes it would fill the memory."""
    return tf.one_hot(fetch(indices), count)


def whole_numbers(where, labels):
    """An array of labels as int64 `[n]`.

    Args:
      where: what has them, for errors.
      labels: `[n]` or `[n, 1]`, of numbers.

    Raises:
      ValueError: they are something else.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"{where}: labels must be [n], one for each example. Received: shape="
                         f"{labels.shape}" + ". Of one-hot labels, labels.argmax(axis=1)" * (
                             labels.ndim == 2))
    if labels.dtype.kind not in "buif":
        raise ValueError(f"{where}: labels must be whole numbers. Received: {labels.dtype}")
    wrong = np.flatnonzero(labels != np.rint(labels.astype(np.float64)))
    if len(wrong):
        raise ValueError(f"{where}: labels must be whole numbers. Received: {labels[wrong[0]]} in "
                         f"row {wrong[0]}")
    return labels.astype(np.int64)
