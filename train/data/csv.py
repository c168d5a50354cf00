"""A table: the columns of a .csv file."""

import pathlib

import numpy as np

from train.data.file_kinds import check_kind
from train.data.scaler import Scaler, label
from train.data.source import from_arrays, split_by_seed, warn
from train.data.table import read_table

__all__ = ["source"]

_MOST = 100_000  # rows that are looked at, of a training part in random order


def source(settings):
    """Rows `[D]`, parted by --seed, standardised.

    A run that is trained takes mean and standard deviation of the training part. `eval` and
    `sample` take those that the model was trained with, whatever file they are given.
    """
    path = pathlib.Path(settings.dataroot)
    check_kind(path, "csv")
    columns, rows = read_table(path)
    indices = split_by_seed(len(rows), settings, str(path))
    scaler = settings.scaler
    if scaler is None:
        scaler = _fitted(path, columns, rows[indices["train"]])
    else:
        rows = rows[:, _places(path, columns, scaler)]
    parts = {s: scaler.standardised(rows[i]) for s, i in indices.items()}
    return from_arrays("vector", parts, scaler=scaler)


def _fitted(path, columns, rows):
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = rows.mean(axis=0), rows.std(axis=0)
    for column, values, spread in zip(columns, rows.T, std):
        if not np.isfinite(spread):
            raise ValueError(f"{path}: {label(column)} has values to {np.abs(values).max():.3g}, "
                             "whose squares are beyond float64. Divide it, or take its logarithm")
        # Of equal numbers the mean is rounded: their deviation is small, and seldom 0.
        if spread <= 100 * np.spacing(np.abs(values).max()):
            raise ValueError(f"{path}: {label(column)} is constant: it has no density. Remove it")
    scaler = Scaler(columns, tuple(mean.tolist()), tuple(std.tolist()))
    _warn_of_atoms(path, columns, rows[:_MOST])
    _warn_of_dependence(path, columns, scaler.standardised(rows[:_MOST]))
    return scaler


def _warn_of_atoms(path, columns, rows, share=0.1):
    """Where one value has a share of the rows, a density can grow without bound."""
    found = []
    for column, values in zip(columns, rows.T):
        distinct, counts = np.unique(values, return_counts=True)
        if counts.max() > max(share * len(rows), 3):
            found.append(f"{label(column)} is {distinct[counts.argmax()]:g} in {counts.max()}")
    if found:
        warn(f"{path}: of {len(rows)} rows, {_listed(found)}: a density of single values can grow "
             "without bound, and the likelihood then means little")


def _warn_of_dependence(path, columns, rows):
    """So it can where a column is a sum of others, to the digits of float32."""
    if len(columns) >= min(len(rows), 500):
        return  # it takes too long, or is so of any rows
    values, vectors = np.linalg.eigh(np.float64(rows).T @ rows / len(rows))
    if values[0] < 1e-12:
        taking_part = [label(c) for c, v in zip(columns, vectors[:, 0]) if abs(v) > 1e-3]
        warn(f"{path}: {_listed(taking_part)} depend linearly on each other: a density of them can "
             "grow without bound. Remove one")


def _places(path, columns, scaler):
    places = scaler.places(columns)
    if places is None:
        raise ValueError(f"{path} has {len(columns)} columns ({_listed(columns)}), and the model "
                         f"was trained on {len(scaler.columns)} ({_listed(scaler.columns)})")
    return places


def _listed(columns, most=8):
    return ", ".join(columns[:most]) + (", ..." if len(columns) > most else "")
