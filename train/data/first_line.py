"""A first line of numbers: a row, as far as one can see, and perhaps a header."""

import numpy as np

from train.data.source import warn

__all__ = ["warn_of_a_header"]


def warn_of_a_header(path, cells, numbers, separator):
    """Says so where the first row is unlike those below, as a header of years is.

    Args:
      path: of the table.
      cells: of all rows, a data frame of text.
      numbers: the same, `[n, D]`.
      separator: of the fields.
    """
    first, below = numbers[0], numbers[1:]
    if not len(below):
        return
    low, high = below.min(axis=0), below.max(axis=0)
    far = np.maximum(low - first, first - high) > 3 * (high - low)
    whole = cells.apply(lambda column: column.str.fullmatch(r"\s*[+-]?\d+\s*")).to_numpy(bool)
    alone = whole[0] & (whole[1:].mean(axis=0) < 0.1)
    as_first = np.isclose(np.diff(below, axis=1), np.diff(first)).all(axis=1)
    if np.all(far | alone) or (_counts(first) and as_first.mean() < 0.5):
        line = separator.join(map(str.strip, cells.iloc[0, :3])) + ", ..." * (len(first) > 3)
        warn(f"{path}: the first line, {line}, is taken as a row, and is unlike those below. If it "
             "is a header, remove it or give it names with letters; if it is a row, a line of "
             "names above it says so")


def _counts(row):
    """Whether it is 0, 1, ... or 1, 2, 3, ..., or goes in other equal steps, four at least."""
    steps = np.diff(row)
    if not len(steps) or steps[0] == 0 or not np.allclose(steps, steps[0], rtol=1e-6, atol=0):
        return False
    return len(row) > 3 or steps[0] == 1 and row[0] in (0, 1)[:len(steps)]
