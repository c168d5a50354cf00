"""Reads a table of text: which separator, whether there is a header, which numbers."""

import csv
import functools
import io
import re

import numpy as np
import pandas as pd

from train.data.decimals import has_thousands, is_number, to_numbers
from train.data.first_line import warn_of_a_header
from train.data.scaler import column_names, label
from train.data.source import warn

__all__ = ["read_table"]

_SEPARATORS = (",", ";", "\t", "|", " ")
_WHOLE_LINES = {"sep": "\x1f", "quoting": csv.QUOTE_NONE}
_MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")
_INDEX = re.compile(r"(Unnamed: \d+(_level_\d+)?|__index_level_\d+__)?")  # pandas' names for it


def read_table(path):
    """A .csv file as `(columns, rows)`: names, and float64 `[n, D]`.

    Fields are separated by commas, semicolons, tabs, bars or spaces, whichever makes numbers of
    them; with any but commas, a decimal comma is read as a point. The first line is a header
    unless it holds numbers, or numbers and missing ones. The nameless index column that
    `DataFrame.to_csv` writes is left out, and said to be.

    Raises:
      ValueError: what is no table of finite numbers; one line that names file, line and column.
    """
    try:
        lines = list(_read(path, nrows=50, **_WHOLE_LINES).iloc[:, 0])
        comments = next((i for i, line in enumerate(lines) if not line.startswith("#")), 0)
        separator = _separator(lines[comments:])
        kwargs = {"sep": r"\s+"} if separator == " " else {"sep": separator,
                                                           "skipinitialspace": True}
        cells = _read(path, skiprows=comments, **kwargs)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error, UnicodeError) as error:
        reason = str(error).strip().removeprefix("Error tokenizing data. C error: ")
        reason += ". Save it in UTF-8" if isinstance(error, UnicodeError) else ""
        raise ValueError(f"{path}: not a readable .csv file ({reason})") from None
    cells = _without_empty_end(cells.fillna(""))
    columns, cells = _header(cells, lines[:comments], separator)
    if not len(cells):
        raise ValueError(f"{path}: there are no rows below the header")
    nameless = cells.index[0] == 0 and columns == list(column_names(len(columns)))
    line_of = functools.partial(_line, path, comments, cells.index)
    numbers = to_numbers(path, columns, cells, separator, line_of)
    if _INDEX.fullmatch(columns[0]):
        columns, cells, numbers = _without_index(path, columns, cells, numbers)
    columns = [name or other for name, other in zip(columns, column_names(len(columns)))]
    _check(path, columns, cells, numbers, line_of)
    if nameless:
        warn_of_a_header(path, cells, numbers, separator)
    return tuple(columns), numbers


def _read(path, **kwargs):
    """Text as a data frame of text."""
    with open(path, "rb") as file:  # Excel's "Unicode text" is UTF-16
        encoding = "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding=encoding,
                       **kwargs)


def _separator(lines):
    """The one that parts most lines into equally many fields, and makes numbers of them."""
    best, chosen = (0.0, 0.0), ","
    for separator in _SEPARATORS:
        rows = _split(lines, separator)
        lengths, counts = np.unique([len(row) for row in rows], return_counts=True)
        if lengths[counts.argmax()] < 2:
            continue
        fields = [field for row in rows[1:] or rows for field in row]
        score = (counts.max() / len(rows),
                 float(np.mean([is_number(field, separator) for field in fields])))
        if score > best:
            best, chosen = score, separator
    return chosen


def _split(lines, separator):
    if separator == " ":
        return [line.split() for line in lines]
    if not any(separator in line for line in lines):
        return [[line] for line in lines]
    return list(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator,
                           skipinitialspace=True))


def _without_empty_end(cells):
    """Without the last column of a table each of whose lines ends in a separator."""
    empty = cells.shape[1] > 1 and (cells.iloc[:, -1] == "").all()
    return cells.iloc[:, :-1] if empty else cells


def _header(cells, comments, separator):
    """Names, and the cells below them.

    Names are in the first row, if it is more than numbers and missing ones, or in a comment above,
    as `numpy.savetxt` writes them.
    """
    columns = [name.strip() for name in cells.iloc[0]]
    numbers = [is_number(name, separator) or has_thousands(name) for name in columns]
    counted = [str(i) for i in range(len(columns))]  # what pandas calls columns without names
    if columns[1:] == counted[:-1] and not columns[0]:
        return columns, cells.iloc[1:]
    if not any(numbers) or not all(number or name.lower() in _MISSING
                                   for name, number in zip(columns, numbers)):
        return columns, cells.iloc[1:]
    if comments:
        [columns] = _split([comments[-1].lstrip("# ")], separator)
        if len(columns) == cells.shape[1]:
            return [name.strip() for name in columns], cells
    return list(column_names(cells.shape[1])), cells


def _without_index(path, columns, cells, numbers):
    """Leaves out a first column without a name if it numbers the rows."""
    index = numbers[:, 0]
    if np.all(index == np.rint(index)) and len(np.unique(index)) == len(index) and (
            len(columns) > 1):
        warn(f"{path}: the first column has no name and numbers the rows: it is left out, as an "
             "index")
        return columns[1:], cells.iloc[:, 1:], numbers[:, 1:]
    raise ValueError(f"{path}: the first column has no name. Name it, or remove it if it is an "
                     "index")


def _check(path, columns, cells, numbers, line_of):
    finite = np.isfinite(numbers)
    if finite.all():
        count = np.arange(len(numbers))
        for column, values in zip(columns, numbers.T):
            if values[0] in (0, 1) and np.array_equal(values, values[0] + count):
                warn(f"{path}: {label(column)} numbers the rows. If it is an index, remove it")
        return
    row, place = np.argwhere(~finite)[0]
    column, texts = label(columns[place]), cells.iloc[:, place]
    if not finite[:, place].any() and len(texts.unique()) > 1:
        some = ", ".join(map(repr, texts.unique()[:3]))
        advice = ("Write thousands without a separator" if texts.map(has_thousands).any() else
                  "Remove it, or turn it into numbers: categories and dates have no density")
        raise ValueError(f"{path}: {column} holds no numbers ({some}, ...). {advice}")
    advice = ""
    if has_thousands(texts.iloc[row]):
        advice += ". Write thousands without a separator"
    if cells.index[row] == 0:
        advice += ". If this line is a header, give it names with letters"
    raise ValueError(f"{path}: line {line_of(row)}, {column} must be a finite number. Received: "
                     f"{texts.iloc[row]!r}{advice}")


def _line(path, comments, index, row):
    """The number in the file of a row, from 1, empty lines and comments counted."""
    lines = _read(path, skip_blank_lines=False, **_WHOLE_LINES).iloc[:, 0].str.strip()
    return np.flatnonzero(lines != "")[comments + index[row]] + 1
