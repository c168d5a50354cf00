"""Labels of examples: which classes there are, and what a model is given of them."""

import numpy as np

from train.data.scaler import listed

__all__ = ["are_wanted", "of_labels", "whole_numbers"]


def are_wanted(settings):
    """Whether the settings ask for labels: as a context, or for a classifier."""
    return settings.task != "density" or settings.conditional


def of_labels(where, labels, settings, classes=None):
    """Keyword arguments of `from_arrays`: the classes, and what is beside each example.

    That is the number of its class, from 0, or, of a conditional run, `[classes]`, one-hot.

    Args:
      where: what has the labels, for errors.
      labels: for each part an array `[n]` of whole numbers or of texts; None, unless `are_wanted`.
      settings: of which --task and --conditional count, and `classes`: those of a trained model.
      classes: all that there are; default those of the training part, in order.

    Raises:
      ValueError: there are fewer than two classes, or another part has one that is not known.
    """
    if not are_wanted(settings):
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
    one_hot = np.eye(len(own), dtype=np.float32)
    return {"classes": own, "contexts": {
        split: one_hot[code] if settings.task == "density" else code.astype(np.float32)
        for split, code in codes.items()}}


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
