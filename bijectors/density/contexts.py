"""Columns of a table that are a context, and what a flow is given of them."""

import dataclasses
import numbers

import numpy as np
import pandas as pd

from bijectors.density.kinds import moments
from tfresflow.checks.rules import check

__all__ = ["Named", "Scaled", "Whole", "context_kind", "context_places", "parted"]

_MOST = 20  # different whole numbers that may stand for categories


@dataclasses.dataclass(frozen=True)
class Scaled:
    """Measured numbers: `(x - mean) / scale`.

    Args:
      mean, scale: of the rows that were fitted.
    """

    mean: float
    scale: float
    is_noisy = False

    def encoded(self, values):
        """`[n, 1]` of values `[n]`."""
        return (values[:, None] - self.mean) / self.scale


@dataclasses.dataclass(frozen=True)
class Whole(Scaled):
    """Whole numbers, as they may be counts or codes: scaled, and one-hot if they are few.

    Args:
      known: those of the rows that were fitted; another one has zeros in its place.
    """

    known: tuple[float, ...] = ()

    def encoded(self, values):
        """`[n, 1 + len(known)]` of values `[n]`."""
        return np.concatenate([super().encoded(values), values[:, None] == self.known], axis=1)


@dataclasses.dataclass(frozen=True)
class Named:
    """Codes 0, 1, ... of categories: one-hot.

    Args:
      count: of categories.
    """

    count: int
    is_noisy = False

    def encoded(self, values):
        """`[n, count]` of codes `[n]`."""
        return np.eye(self.count)[values.astype(int)]


def context_kind(values, weights, known):
    """What a column is encoded by.

    Args:
      values: `[n]`, or codes.
      weights: `[n]`, positive.
      known: the categories, None of numbers.
    """
    if known is not None:
        return Named(len(known))
    mean, scale = moments(values, weights)
    scale = scale if scale > 100 * np.spacing(np.abs(values).max()) else 1.0  # of equal numbers
    if not np.array_equal(values, np.rint(values)):
        return Scaled(mean, scale)
    different = np.unique(values)
    return Whole(mean, scale, tuple(different.tolist()) if len(different) <= _MOST else ())


def context_places(table, context):
    """Places of the columns that are the context, as a list; empty for None.

    Args:
      table: a DataFrame, or an array `[n, D]`.
      context: a name or an index of a column, or a list of such.

    Raises:
      ValueError: one of them is no column, or is there twice; or no column is left.
    """
    if context is None:
        return []
    names = list(table.columns) if isinstance(table, pd.DataFrame) else list(range(table.shape[1]))
    alone = isinstance(context, (str, numbers.Integral))
    found = [context] if alone or not np.iterable(context) else list(context)
    good = len(set(map(str, found))) == len(found) and all(names.count(own) == 1 for own in found)
    kind = "names" if isinstance(table, pd.DataFrame) else "indices"
    check(good and 0 < len(found) < len(names), "context", f"be {kind} of some of the columns "
          f"of X, each once, or None. The columns are {names}", context)
    return [names.index(own) for own in found]


def parted(table, places):
    """`(density, context)`: the columns that are not in these places, and those that are."""
    others = [i for i in range(table.shape[1]) if i not in places]
    if isinstance(table, pd.DataFrame):
        return table.iloc[:, others], table.iloc[:, places]
    return table[:, others], table[:, places]
