"""A table: the numeric columns of a .csv file."""

import pathlib

import numpy as np
import pandas as pd

from train.data.source import from_arrays, split_by_seed

__all__ = ["source"]


def source(settings):
    """Rows `[D]`, parted by --seed, standardised with the training part's mean and std."""
    path = pathlib.Path(settings.dataroot)
    table = _read(path)
    rows = table.to_numpy(np.float64)
    parts = {s: rows[i] for s, i in split_by_seed(len(rows), settings, str(path)).items()}
    mean, std = parts["train"].mean(axis=0), parts["train"].std(axis=0)
    if np.any(std == 0):
        constant = table.columns[std == 0][0]
        raise ValueError(f"{path}: column {constant!r} is constant: it has no density. Remove it")
    parts = {s: ((a - mean) / std).astype(np.float32) for s, a in parts.items()}
    return from_arrays("vector", parts, log_scale=float(np.log(std).sum()))


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"--dataroot={path}: no such file")
    try:
        kwargs = {"dtype": str, "keep_default_na": False, "skipinitialspace": True}
        header = not _are_numbers(pd.read_csv(path, header=None, nrows=1, **kwargs).iloc[0])
        table = pd.read_csv(path, header=0 if header else None, **kwargs)
        if not header:  # the first line is data
            table.columns = [str(i + 1) for i in range(table.shape[1])]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable .csv file ({str(error).strip()})") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise ValueError(f"{path}: rows have more fields than the header, which has "
                         f"{table.shape[1]}")
    numbers = table.apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere(~np.isfinite(numbers.to_numpy(np.float64)))
    if len(bad):
        row, column = bad[0]
        raise ValueError(f"{path}: line {row + 1 + header}, column {table.columns[column]!r} must "
                         f"be a finite number. Received: {table.iloc[row, column]!r}")
    return numbers


def _are_numbers(row):
    return pd.to_numeric(row, errors="coerce").notna().all()
