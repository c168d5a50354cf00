"""A table: the columns of a .csv file."""

import pathlib

import numpy as np

from train.data.examine_rows import examine_rows, warn_of_repeats
from train.data.file_kinds import check_kind
from train.data.scaler import Scaler, label, listed
from train.data.source import from_arrays, split_by_seed
from train.data.table import read_table

__all__ = ["source"]


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
    warn_of_repeats(path, parts)
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
    examine_rows(path, columns, rows)
    return Scaler(columns, tuple(mean.tolist()), tuple(std.tolist()))


def _places(path, columns, scaler):
    places = scaler.places(columns)
    if places is None:
        raise ValueError(
            f"{path} has {len(columns)} columns ({listed(map(repr, columns))}), and the model was "
            f"trained on {len(scaler.columns)} ({listed(map(repr, scaler.columns))})")
    return places
