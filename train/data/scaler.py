"""The units of a table: what its columns are called, and how they are standardised."""

import dataclasses
import re

import numpy as np

__all__ = ["Scaler", "column_names", "label", "listed"]


@dataclasses.dataclass(frozen=True)
class Scaler:
    """`z = (x - mean) / std`, column by column, with the numbers of the training part.

    It is a part of the model: a model that was trained on standardised rows gives a density of
    other rows only if those are standardised by the same numbers.

    Attributes:
      columns: their names in the file; see `column_names` for a file without.
      mean, std: of each column, in the units of the file.
    """

    columns: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def log_scale(self):
        """`sum log std`: nats in the units of the file are those of standardised rows plus this."""
        return float(np.log(self.std).sum())

    def standardised(self, rows):
        """Rows `[n, D]` of the file to float32. The difference is taken in float64 before."""
        return ((rows - np.array(self.mean)) / np.array(self.std)).astype(np.float32)

    def original(self, rows):
        """Standardised rows `[n, D]` in the units of the file, float64."""
        return np.float64(rows) * np.array(self.std) + np.array(self.mean)

    def places(self, columns):
        """Where in a file with these columns each of the scaler's own is, or None.

        Columns are found by name, in whatever order; by place where either file has no names.
        """
        nameless = column_names(len(self.columns))
        if len(columns) != len(self.columns):
            return None
        if columns in (self.columns, nameless) or self.columns == nameless:
            return list(range(len(columns)))
        if sorted(columns) != sorted(self.columns) or len(set(columns)) < len(columns):
            return None
        return [columns.index(name) for name in self.columns]


def column_names(count):
    """What columns without names are called: "column 1", "column 2", ..."""
    return tuple(f"column {i + 1}" for i in range(count))


def label(column):
    """How a message calls a column: by its name, or as "the 2nd column"."""
    place = re.fullmatch(r"column (\d+)", column)
    if place is None:
        return f"column {column!r}"
    digits = place[1]
    end = "th" if digits[-2:-1] == "1" else {"1": "st", "2": "nd", "3": "rd"}.get(digits[-1], "th")
    return f"the {digits}{end} column"


def listed(texts, most=8):
    """The first of some texts, in a row."""
    texts = list(texts)
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
