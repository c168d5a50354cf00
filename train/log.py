"""log.csv: a row for each validation, also of runs that were killed and went on."""

import csv
import io

import keras
import pandas as pd

from train.errors import UserError
from train.files import write_text

__all__ = ["Log", "add", "cut"]


class Log(keras.callbacks.Callback):
    """Adds what a validation has found. In place of Keras's, whose lines end as in no other file.

    Args:
      path: of log.csv.
    """

    def __init__(self, path):
        super().__init__()
        self._path = path

    def on_epoch_end(self, epoch, logs=None):
        add(self._path, {"epoch": epoch, **logs})


def add(path, row):
    """Adds a row, a dictionary, to the columns of the file; a new file gets those of the row."""
    columns = _columns(path)
    with open(path, "a", newline="") as file:
        writer = csv.DictWriter(file, columns or ["epoch", *sorted(row.keys() - {"epoch"})],
                                extrasaction="ignore", lineterminator="\n")
        if not columns:
            writer.writeheader()
        writer.writerow(row)


def cut(path, step):
    """Leaves out what an earlier run did after the checkpoint of `step`: it is redone.

    Returns:
      The step of the last validation that is left, 0 without one.

    Raises:
      UserError: the file is not the log of a run.
    """
    if not _columns(path):
        return 0
    try:
        text = path.read_text()
        table = pd.read_csv(io.StringIO(text[:text.rfind("\n") + 1]), dtype=str)  # no half line
        steps = pd.to_numeric(table["step"])
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} must be the log of a run, a table with a column `step`. Move it "
                        f"away, or choose another --workdir. Received: {error!r}") from None
    write_text(table[steps <= step].to_csv(index=False, lineterminator="\n"), path)
    return int(steps[steps <= step].max()) if (steps <= step).any() else 0


def _columns(path):
    """Of a log that there is, else none."""
    if not path.exists():
        return []
    with open(path, newline="", errors="replace") as file:
        return next(csv.reader(file), [])
