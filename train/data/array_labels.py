"""What arrays are by their names, and those that are labels."""

import pathlib

import numpy as np

from train.data.array_file import SUFFIXES, read_arrays
from train.data.file_kinds import check_kind
from train.data.labels import whole_numbers
from train.data.named_parts import PARTS, files_of_parts

__all__ = ["labels_of", "part_of", "part_of_labels"]

_LABELS = {"y", "label", "labels", "target", "targets"}
_EXAMPLES = {"x", "image", "images", "data"}


def part_of(name):
    """`"x_train"` or `"train_images"` to `"train"`; None if it names no part."""
    words = [word for word in name.lower().split("_") if word not in _EXAMPLES]
    return PARTS.get("_".join(words))


def part_of_labels(name):
    """`"y_train"` or `"train_labels"` to `"train"`, `"y"` to `""`; else None."""
    words = name.lower().split("_")
    others = [word for word in words if word not in _LABELS]
    if len(others) == len(words):
        return None
    return PARTS.get("_".join(others)) if others else ""


def labels_of(path, settings, counts):
    """The labels of examples, int64 `[n]`, by part.

    Args:
      path: of the examples, a file or a folder.
      settings: --labels is looked at: a file or folder of labels alone; else they are beside the
        examples.
      counts: `{"train": how many examples, ...}`, or `{"": all}` of no part.

    Raises:
      ValueError or OSError: there are none, or not as many whole numbers; one line.
    """
    where, alone = pathlib.Path(settings.labels or path), bool(settings.labels)
    if alone:
        _check(where)
    if where.is_dir():
        found = _of_folder(where, alone)
    else:
        found = {part: whole_numbers(f"{where}, {part} part" if part else str(where), labels)
                 for part, labels in _of_file(where, alone).items() if part in counts}
    if missing := sorted(set(counts) - set(found)):
        names = ", ".join(f"y_{part}" if part else "y" for part in missing)
        raise ValueError(f"{where}: labels are missing. Expected arrays named {names}"
                         + ("" if alone else ", or --labels=FILE.npy"))
    for part, count in counts.items():
        if len(found[part]) != count:
            raise ValueError(f"{where}: there must be a label for each of the {count} examples of "
                             f"{path}{part and f', {part} part'}. Found {len(found[part])}")
    return found


def _check(where):
    if not where.exists():
        raise FileNotFoundError(f"--labels={where}: no such file")
    try:
        check_kind(where, "array")
    except ValueError:
        raise ValueError("--labels must be a .npy, .npz or .pth file or a folder of them. "
                         f"Received: --labels={where}") from None


def _of_file(path, alone):
    """`{part: labels}` of a file; `alone`: of labels alone, where names of the parts will do."""
    def choose(names):
        parts = {name: part_of_labels(name) for name in names}
        if alone:
            parts = {name: part_of(name) if part is None else part for name, part in parts.items()}
        return {part: name for name, part in parts.items() if part is not None}

    found = read_arrays(path, choose)
    if "array" in found:  # that has no name
        return {"": found["array"]} if alone else {}
    return found


def _of_folder(root, alone):
    """`{part: labels}` of all files, in the order of `files_of_parts`, as the images."""
    pieces: dict = {}
    for part, paths in files_of_parts(root, SUFFIXES).items():
        for path in paths:
            labels = list(_of_file(path, alone).values())
            if len(labels) != 1:
                raise ValueError(f"{path}: one array of labels is expected, named y. Found "
                                 f"{len(labels)}")
            pieces.setdefault(part, []).append(whole_numbers(str(path), *labels))
    return {part: np.concatenate(own) for part, own in pieces.items()}
