"""What the arrays of a .npz or .npy file are by their names, and those that are labels."""

import contextlib
import pathlib
import zipfile
import zlib

import numpy as np

from train.data.file_kinds import check_kind
from train.data.labels import whole_numbers

__all__ = ["labels_of", "member", "opened", "part_of", "part_of_labels"]

_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test",
          "validation": "validation", "val": "validation", "valid": "validation"}
_LABELS = {"y", "label", "labels", "target", "targets"}
_EXAMPLES = {"x", "image", "images", "data"}


def part_of(name):
    """`"x_train"` or `"train_images"` to `"train"`; None if it names no part."""
    words = [word for word in name.lower().split("_") if word not in _EXAMPLES]
    return _PARTS.get("_".join(words))


def part_of_labels(name):
    """`"y_train"` or `"train_labels"` to `"train"`, `"y"` to `"all"`; else None."""
    words = name.lower().split("_")
    others = [word for word in words if word not in _LABELS]
    return None if len(others) == len(words) else _PARTS.get("_".join(others)) if (
        others) else "all"


def opened(path):
    """What `numpy.load` makes of a file.

    Raises:
      ValueError: it is not readable; one line.
    """
    with _readable(path):
        return np.load(path, allow_pickle=False)


def member(path, loaded, name):
    """An array of an open .npz file; raises as `opened`."""
    with _readable(path):
        return loaded[name]


def labels_of(path, settings, counts):
    """The labels of examples, int64 `[n]`, by part; of one part alone by "all".

    Args:
      path: of the examples.
      settings: --labels is looked at: a file of labels alone; else they are beside the examples.
      counts: of the examples of each part, whose labels are asked for.

    Raises:
      ValueError or OSError: there are none, or not as many whole numbers; one line.
    """
    where = pathlib.Path(settings.labels or path)
    if settings.labels and not where.exists():
        raise FileNotFoundError(f"--labels={where}: no such file")
    check_kind(where, "array")
    loaded = opened(where)
    if isinstance(loaded, np.ndarray):
        found = {"all": loaded} if settings.labels else {}
    else:
        # In a file of labels alone, names of the parts will do.
        parts = {name: part_of_labels(name) or (part_of(name) if settings.labels else None)
                 for name in loaded.files}
        found = {part: member(where, loaded, name) for name, part in parts.items() if part}
    wanted = {part if len(counts) > 1 else "all": count for part, count in counts.items()}
    missing = sorted(set(wanted) - set(found))
    if missing:
        names = ["y"] if missing == ["all"] else [f"y_{part}" for part in missing]
        raise ValueError(f"{where}: labels are missing. Expected arrays named {', '.join(names)}"
                         + ("" if settings.labels else ", or --labels=FILE.npy"))
    labels = {part: whole_numbers(f"{where}, {part} part" if len(wanted) > 1 else str(where),
                                  found[part]) for part in wanted}
    for part, count in wanted.items():
        if len(labels[part]) != count:
            raise ValueError(f"{where}: there must be a label for each of the {count} examples of "
                             f"{path}. Found {len(labels[part])}")
    return labels


@contextlib.contextmanager
def _readable(path):
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path}: an array holds objects of Python, as texts or lists of "
                             "different lengths, which have no density. Save numbers: "
                             "array.astype(float)") from None
        raise ValueError(f"{path}: not a readable .npz or .npy file ({error})") from None
