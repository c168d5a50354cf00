"""What all figures share: a picture, a table, means with errors."""

import contextlib
import pathlib

import numpy as np

from train.plots import plt

__all__ = ["figure", "mean_and_error", "save_table", "told"]


@contextlib.contextmanager
def figure(path, *args, **kwargs):
    """`plt.subplots(*args, **kwargs)`: yields the axes, saves on leaving."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    made, axes = plt.subplots(*args, **kwargs)
    yield axes
    made.savefig(path, dpi=200)
    plt.close(made)


def save_table(table, path):
    """A pandas table as csv."""
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.6g")


def mean_and_error(values):
    """Mean of repeated runs and its standard error, which is not a number for one run."""
    values = np.asarray(values, float)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return values.mean(), error


def told(claims):
    """The claims that hold, and those that do not, as a line; of `{claim: whether it holds}`."""
    said = {word: [claim for claim, holds in claims.items() if holds == (word == "confirmed")]
            for word in ("confirmed", "not confirmed")}
    return "; ".join(f"{word}: {', '.join(own) or 'none'}" for word, own in said.items())
