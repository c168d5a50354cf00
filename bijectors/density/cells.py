"""A table as numbers: float64 `[n, D]`, codes in the place of categories, nan where one misses."""

import numpy as np
import pandas as pd

from tfresflow.checks.inputs import place

__all__ = ["categories_of", "is_frame", "numbers_of", "refuse", "without_missing"]


def is_frame(table):
    """Whether a table is a DataFrame of pandas, whose columns have types of their own."""
    return isinstance(table, pd.DataFrame)


def categories_of(column):
    """The categories of a pandas Series, in order; None where it holds numbers.

    A `category` has an order of its own, others have that of their names.

    Raises:
      ValueError: a column of dates, or of numbers and words.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.remove_unused_categories().dtype.categories
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind in ("string", "boolean"):
        return pd.Index(sorted(column.dropna().unique()))
    if kind in ("integer", "floating", "mixed-integer-float", "decimal", "empty"):
        return None
    raise ValueError(f"`X` must have columns of numbers or of categories (category, string, bool). "
                     f"Received: {kind} in column {column.name!r}")


def numbers_of(table, names, categories):
    """float64 `[n, D]` of a DataFrame.

    Args:
      table: the DataFrame.
      names: of its columns.
      categories: for each column an index of pandas, or None.

    Raises:
      ValueError: a category that is not among them, a word where a number is expected.
    """
    cells = np.empty(table.shape)
    for i, (name, known) in enumerate(zip(names, categories)):
        column = table.iloc[:, i]
        if known is not None:
            cells[:, i] = _codes(column, name, known)
        else:
            cells[:, i] = _numbers(column, name)
    return cells


def without_missing(cells, names, fill=None):
    """Cells `[n, D]` all of which are finite; `fill [D]` replaces what is missing.

    Raises:
      ValueError: one misses and `fill` is None, or one is infinite.
    """
    missing = np.isnan(cells)
    if missing.any() and fill is None:
        refuse(cells, missing, names, "`X` must have no missing values, unless missing=\"median\"")
    cells = np.where(missing, 0.0 if fill is None else fill, cells)
    refuse(cells, ~np.isfinite(cells), names, "`X` must be finite")
    return cells


def refuse(cells, bad, names, rule):
    """Raises `ValueError` that names the first bad cell of `[n, D]`, if there is one."""
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        value = str(cells[row, column]).replace("nan", "NaN")
        raise ValueError(f"{rule}. Received: {value} in {place((row, column), names)}")


def _codes(column, name, known):
    codes = known.get_indexer(column).astype(np.float64)
    missing, unknown = column.isna().to_numpy(), codes < 0
    if (unknown & ~missing).any():
        row = int(np.argmax(unknown & ~missing))
        raise ValueError(f"`X` must have categories that were there in fit. Received: "
                         f"{column.iloc[row]!r} in row {row}, column {name!r}")
    codes[missing] = np.nan
    return codes


def _numbers(column, name):
    try:
        return column.to_numpy(np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(f"`X` must have numbers in column {name!r}, as in fit. "
                         f"Received: dtype={column.dtype}") from None
