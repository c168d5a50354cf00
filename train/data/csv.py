"""A table: the columns of a .csv file."""

import pathlib

import numpy as np

from train.data.examine_rows import examine_rows, warn_of_repeats
from train.data.file_kinds import check_kind
from train.data.labels import of_labels, whole_numbers
from train.data.scaler import Scaler, label, listed
from train.data.source import from_arrays, split_by_seed
from train.data.table import read_table
from train.settings import wants_labels

__all__ = ["source"]


def source(settings):
    """Rows `[D]`, parted by --seed, standardised; without the column --labels, which is no number.

    A run that is trained takes mean and standard deviation of the training part. `eval` and
    `sample` take those that the model was trained with, whatever file they are given.
    """
    path = pathlib.Path(settings.dataroot)
    check_kind(path, "csv")
    columns, rows = read_table(path)
    indices = split_by_seed(len(rows), settings, str(path))
    own = _context_columns(path, columns, settings.context_columns)
    label = _label_column(path, columns, settings)
    others = [i for i in range(len(columns)) if i not in (*own, label)]
    scaler, parts = _scaled(path, columns, rows, indices, others, settings.scaler)
    warn_of_repeats(path, parts)
    if wants_labels(settings):
        labels = whole_numbers(f"{path}, column {settings.labels!r}", rows[:, label])
        return from_arrays("vector", parts, scaler=scaler, **of_labels(
            str(path), {s: labels[i] for s, i in indices.items()}, settings))
    if not own:
        return from_arrays("vector", parts, scaler=scaler)
    context_scaler, contexts = _scaled(path, columns, rows, indices, own, settings.context_scaler)
    return from_arrays("vector", parts, contexts, scaler=scaler, context_scaler=context_scaler)


def _context_columns(path, columns, text):
    """Places of the columns that are the context."""
    names = [name.strip() for name in text.split(",")] if text else []
    unknown = [name for name in names if columns.count(name) != 1]
    if unknown or len(set(names)) < len(names) or len(names) == len(columns):
        raise ValueError(f"--context_columns must be some of the columns of {path} "
                         f"({listed(map(repr, columns))}), each once. Received: "
                         f"--context_columns={text}")
    return [columns.index(name) for name in names]


def _label_column(path, columns, settings):
    """Place of the column of labels; None where there is none, and none is asked for."""
    if settings.labels in columns:
        if columns.count(settings.labels) == 1 and len(columns) > 1:
            return columns.index(settings.labels)
    elif not settings.labels or not wants_labels(settings):
        return None
    raise ValueError(f"--labels must be one of several columns of {path} "
                     f"({listed(map(repr, columns))}). Received: --labels={settings.labels}")


def _scaled(path, columns, rows, indices, places, scaler):
    """`(scaler, parts)` of the columns in these places."""
    columns, rows = tuple(columns[i] for i in places), rows[:, places]
    if scaler is None:
        scaler = _fitted(path, columns, rows[indices["train"]])
    else:
        rows = rows[:, _places(path, columns, scaler)]
    return scaler, {s: scaler.standardised(rows[i]) for s, i in indices.items()}


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
