"""Numbers as tables write them: decimal points or commas, and no separators of thousands."""

import re

import numpy as np
import pandas as pd

from train.data.scaler import label
from train.data.source import warn

__all__ = ["has_thousands", "is_number", "to_numbers"]

_DECIMAL_COMMA = r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?"
_THOUSANDS = r"[+-]?\d{1,3}(?:([.,'’\u00a0\u202f ])\d{3})(?:\1\d{3})*(?:[.,]\d+)?"


def is_number(field, separator):
    """Whether a field of a table is a number, perhaps with a decimal comma."""
    if separator != "," and re.fullmatch(_DECIMAL_COMMA, field.strip()):
        return True
    try:
        return float(field) is not None
    except ValueError:
        return False


def has_thousands(field):
    """Whether a field looks like a number whose thousands are separated: 1,234 or 1.234,5."""
    return re.fullmatch(_THOUSANDS, field.strip()) is not None


def to_numbers(path, columns, cells, separator, line_of):
    """float64 `[n, D]` of a data frame of text, nan where a field is no number.

    Args:
      path, columns: of the table, and their names.
      cells: the data frame.
      separator: of the fields; with commas there are no decimal commas.
      line_of: `row -> line` in the file.

    Raises:
      ValueError: some have a decimal comma and some a point, so either may be of thousands.
    """
    numbers = cells.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, copy=True)
    commas = np.zeros(numbers.shape, bool)
    for i in np.flatnonzero(np.isnan(numbers).any(axis=0)) if separator != "," else ():
        commas[:, i] = cells.iloc[:, i].str.fullmatch(rf"\s*{_DECIMAL_COMMA}\s*", na=False)
    if not commas.any():
        return numbers
    points = cells.apply(lambda column: column.str.contains(".", regex=False, na=False))
    points = points.to_numpy(bool) & ~np.isnan(numbers)
    if points.any():
        comma, point = (_told(columns, cells, found, line_of) for found in (commas, points))
        raise ValueError(f"{path}: {comma}, has a decimal comma, and {point}, a point. Write "
                         "decimals in one way, and thousands without a separator")
    warn(f"{path}: decimal commas are read as points")
    numbers[commas] = [float(text.replace(",", ".")) for text in cells.to_numpy()[commas]]
    return numbers


def _told(columns, cells, found, line_of):
    row, column = np.argwhere(found)[0]
    return f"line {line_of(row)}, {label(columns[column])}, {cells.iloc[row, column].strip()!r}"
