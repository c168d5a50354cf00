"""What the columns of a table become: kinds, units, and the numbers that a flow sees."""

import dataclasses

import numpy as np
import pandas as pd

from bijectors.density.cells import categories_of, is_frame, numbers_of, refuse, without_missing
from bijectors.density.contexts import context_kind
from bijectors.density.kinds import Categorical, Continuous, Counted, moments
from bijectors.density.noise import keys_of, uniform
from tfresflow.checks.rules import check

__all__ = ["Columns", "fitted", "fitted_context"]


@dataclasses.dataclass(frozen=True)
class Columns:
    """Reads tables with the columns of one that was fitted, and writes such ones.

    Args:
      names: what the columns are called, or their numbers.
      categories: for each column an index of pandas, or None.
      kinds: for each column one of `kinds`.
      fill: what replaces missing cells, `[D]`, or None.
      dtypes: of the DataFrame, None of an array.
    """

    names: tuple
    categories: tuple
    kinds: tuple
    fill: np.ndarray | None = None
    dtypes: tuple | None = None

    @property
    def are_noisy(self):
        """Whether a column is dequantised."""
        return any(kind.is_noisy for kind in self.kinds)

    def cells(self, table):
        """float64 `[n, D]` of a DataFrame or an array of numbers; all checked.

        Raises:
          ValueError: one line that names column and value.
        """
        frame = table if is_frame(table) else pd.DataFrame(table)
        if self.dtypes is not None and is_frame(table):  # scikit-learn looks at texts only
            check(tuple(frame.columns) == self.names, "X", "have the columns of the table in fit, "
                  f"{self.names}", tuple(frame.columns))
        cells = numbers_of(frame, self.names, self.categories)
        cells = without_missing(cells, self.names, self.fill)
        counted = np.array([isinstance(kind, Counted) for kind in self.kinds])
        typed = np.array([isinstance(kind, Counted) and kind.typed for kind in self.kinds])
        whole = np.rint(cells)
        refuse(cells, typed & (cells != whole), self.names,
               "`X` must have whole numbers in a column of integers")
        return np.where(counted, whole, cells)

    def encoded(self, cells):
        """What a flow is given of the cells `[n, C]` of a context: `[n, K]`."""
        return np.concatenate([kind.encoded(own) for kind, own in zip(self.kinds, cells.T)], axis=1)

    def forward(self, cells, noise):
        """`(z [n, D], log_slope [n])` of cells and noise `[n, D]`, see `kinds`."""
        parts = [kind.forward(*column) for kind, *column in zip(self.kinds, cells.T, noise.T)]
        return np.stack([z for z, _ in parts], axis=1), sum(slope for _, slope in parts)

    def dequantised(self, cells, seed, draw=0):
        """`forward` with noise that is a function of the row, `seed` and `draw`."""
        if not self.are_noisy:
            return self.forward(cells, cells)
        return self.forward(cells, uniform(keys_of(cells, seed), draw, cells.shape[1]))

    def table(self, z):
        """The rows of z `[n, D]`: a DataFrame where one was fitted, else float64 `[n, D]`."""
        return self.written(np.stack([kind.inverse(own) for kind, own in zip(self.kinds, z.T)],
                                     axis=1))

    def written(self, cells):
        """The rows of cells `[n, D]`, see `table`."""
        if self.dtypes is None:
            return cells
        columns = [_series(*one) for one in zip(cells.T, self.categories, self.dtypes)]
        return pd.concat(columns, axis=1, keys=self.names)


def fitted(table, weights, integers, missing, names=None):
    """`(columns, cells [n, D])` of a table to fit.

    Args:
      table: a DataFrame, or an array of numbers `[n, D]`, nan where one misses.
      weights: `[n]`, positive.
      integers: "values" or "dtype", see `FlowDensity`.
      missing: "error" or "median", see `FlowDensity`.
      names: of the columns of an array; default their numbers.

    Raises:
      ValueError: one line that names the column that is not right.
    """
    names, series, categories, cells, fill = _read(table, missing, names)
    kinds = []
    for name, column, known, values in zip(names, series, categories, cells.T):
        typed = pd.api.types.is_integer_dtype(column)
        if known is not None:
            kinds.append(_categorical(values, weights))
        elif typed or integers == "values" and np.array_equal(values, np.rint(values)):
            kinds.append(_counted(values, weights, typed))
        else:
            kinds.append(_continuous(name, values, weights))
    return Columns(names, categories, tuple(kinds), fill, _dtypes(table)), cells


def fitted_context(table, weights, missing, names=None):
    """`(columns, cells [n, C])` of those that are a context; see `fitted`, `Columns.encoded`."""
    names, _, categories, cells, fill = _read(table, missing, names)
    kinds = tuple(context_kind(values, weights, known)
                  for values, known in zip(cells.T, categories))
    return Columns(names, categories, kinds, fill, _dtypes(table)), cells


def _read(table, missing, names):
    """Names, series, categories, cells and what replaces the missing ones."""
    frame = table if is_frame(table) else pd.DataFrame(table, columns=names)
    names, series = tuple(frame.columns), [column for _, column in frame.items()]
    categories = tuple(map(categories_of, series))
    cells = numbers_of(frame, names, categories)
    fill = _medians(cells, names) if missing == "median" else None
    return names, series, categories, without_missing(cells, names, fill), fill


def _dtypes(table):
    return tuple(column.dtype for _, column in table.items()) if is_frame(table) else None


def _categorical(codes, weights):
    shares = np.bincount(codes.astype(int), weights)
    return Categorical(tuple((shares / shares.sum()).tolist()))


def _counted(values, weights, typed):
    mean, scale = moments(values, weights)
    return Counted(mean + 0.5, np.hypot(scale, 12 ** -0.5), typed)


def _continuous(name, values, weights):
    mean, scale = moments(values, weights)
    # Of equal numbers the mean is rounded: their deviation is small, and seldom 0.
    check(scale > 100 * np.spacing(np.abs(values).max()), "X", "have no constant column, which has "
          f"no density: leave out column {name!r}", values[0])
    check(np.isfinite(scale), "X", "have values whose squares are finite: divide or take "
          f"logarithms in column {name!r}", np.abs(values).max())
    return Continuous(mean, scale)


def _medians(cells, names):
    empty = np.isnan(cells).all(axis=0)
    check(not empty.any(), "X", "have a value in each column",
          f"none in column {names[int(np.argmax(empty))]!r}")
    return np.array([np.nanpercentile(column, 50, method="lower") for column in cells.T])


def _series(values, known, dtype):
    """A column in the type that it had; of small integers, what they cannot be is clipped."""
    if known is not None:
        return pd.Series(known.take(values.astype(int)), dtype=dtype)
    if pd.api.types.is_integer_dtype(dtype):
        limits = np.iinfo(getattr(dtype, "numpy_dtype", dtype))
        values = np.clip(values, limits.min, limits.max)
    return pd.Series(values).astype(dtype)
