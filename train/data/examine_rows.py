"""Looks at a user's rows: whether a density of them, and its score, would mean anything."""

import numpy as np

from train.data.scaler import label, listed
from train.data.source import warn

__all__ = ["examine_rows", "warn_of_repeats"]

_MOST = 100_000  # rows that are looked at, of a training part in random order
_SHARE = 0.1  # of rows with one value
_STEP = 0.02  # of a column's spread: what a density can tell apart


def examine_rows(path, columns, rows):
    """Warns where a density of the training part `[n, D]` can grow without bound.

    Args:
      path: of the file.
      columns: names.
      rows: none of whose columns is constant.
    """
    mean, std = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    rows = np.float64(rows[:max(1000, min(_MOST, 10 ** 7 // len(columns)))])
    labels, steps = list(map(label, columns)), list(map(_step, rows.T))
    if any(steps):
        found = [f"{name} goes in steps of {step:.6g}" for name, step in zip(labels, steps) if step]
        warn(f"{path}: {listed(found)}: of numbers that are counted or rounded there is no "
             "density: one can grow without bound on them, and the likelihood then means little. "
             "Add noise that is uniform in [0, step), or leave them out")
    others = [i for i, step in enumerate(steps) if not step]
    _warn_of_atoms(path, [labels[i] for i in others], rows.T[others])
    _warn_of_dependence(path, labels, (rows - mean) / std)


def warn_of_repeats(path, parts):
    """Says how many examples of the other parts stand in the training part, too."""
    seen = set(_marks(parts["train"]))
    for split in ("test", "validation"):
        again = sum(mark in seen for mark in _marks(parts[split]))
        if again:
            warn(f"{path}: {again} of {len(parts[split])} examples of the {split} part stand in "
                 "the training part, too: their score is not that of new ones. Remove repeated "
                 "examples")


def _marks(examples):
    """A number for each, equal for equal ones, 0.0 and -0.0 included."""
    for i in range(0, len(examples), 1000):
        rows = (examples[i:i + 1000] + 0).reshape(len(examples[i:i + 1000]), -1)
        yield from map(hash, rows.view(f"V{rows[0].nbytes}")[:, 0].tolist())


def _step(values):
    """The step of the grid that a column is on, if it is of some size; else 0."""
    distinct = np.unique(values)
    middle = np.ptp(np.percentile(values, [25, 75])) / 1.35  # a few rows far away do not count
    smallest = _STEP * (min(middle, values.std()) or values.std())
    rest = gaps = np.diff(distinct)
    step = 0
    while len(rest):  # Euclid's algorithm, of all gaps together
        step = rest.min()
        if step < smallest:
            return 0
        rest = np.abs(gaps - step * np.rint(gaps / step))
        rest = rest[rest > 0.01 * smallest]
    return step


def _warn_of_atoms(path, labels, columns):
    """Where one value has a share of the rows."""
    found = []
    for name, values in zip(labels, columns):
        distinct, counts = np.unique(values, return_counts=True)
        if counts.max() > max(_SHARE * len(values), 3):
            found.append(f"{name} is {distinct[counts.argmax()]:g} in {counts.max()}")
    if found:
        warn(f"{path}: of {len(values)} rows, {listed(found)}: a density of single values can grow "
             "without bound, and the likelihood then means little")


def _warn_of_dependence(path, labels, rows):
    """Where a column is a sum of others, to the digits of float32."""
    if len(labels) >= min(len(rows), 500):
        return  # it takes too long, or is so of any rows
    rows = np.float64(np.float32(rows))
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    if values[0] < 1e-12:
        taking_part = [name for name, v in zip(labels, vectors[:, 0]) if abs(v) > 1e-3]
        warn(f"{path}: {listed(taking_part)} depend linearly on each other: a density of them can "
             "grow without bound. Remove one")
