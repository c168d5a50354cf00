"""Which files of a folder are of which part of a data set, by their names."""

import os
import pathlib
import re

__all__ = ["PARTS", "files_of_parts"]

PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test",
         "validation": "validation", "val": "validation", "valid": "validation"}
_SHARD = re.compile(r"(.*?)-(\d+)-of-(\d+)(\.\w+)$")


def files_of_parts(root, suffixes):
    """`{part: paths}` of a folder and those below it; the part `""` of files without one.

    The words `train`, `test`, `valid` and so on stand in the name of the file, as in
    `train_32x32.npy`, or else in that of the nearest folder that has one. Hidden files are passed
    over.

    Args:
      root: the folder.
      suffixes: of the files, in lower case.

    Raises:
      ValueError: none is there, some have a part and some not, or one of several that belong
        together, `-0003-of-0120`, is missing.
    """
    parts: dict = {}
    for place, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            path = pathlib.Path(place, name)
            if not name.startswith(".") and path.suffix.lower() in suffixes:
                parts.setdefault(_part(path, root), []).append(path)
    if not parts:
        raise ValueError(f"--dataroot={root}: no files of {', '.join(suffixes)} in it")
    if "" in parts and len(parts) > 1:
        raise ValueError(f"{parts[''][0]}: no word of train, validation or test in its name, and "
                         "other files have one. Rename it, or move it away")
    for paths in parts.values():
        _check_complete(paths)
    return parts


def _part(path, root):
    for name in (path.name, *reversed(path.parent.relative_to(root).parts)):
        found = {PARTS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in PARTS}
        if len(found) > 1:
            raise ValueError(f"{path}: one word of train, validation or test is expected in its "
                             f"name. Found {', '.join(sorted(found))}")
        if found:
            return found.pop()
    return ""


def _check_complete(paths):
    """Raises if a file of `NAME-0000-of-0120` and so on is missing."""
    groups: dict = {}
    for path in paths:
        if match := _SHARD.match(str(path)):
            begin, number, count, suffix = match.groups()
            groups.setdefault((begin, count, suffix), set()).add(int(number))
    for (begin, count, suffix), numbers in groups.items():
        for number in sorted(set(range(int(count))) - numbers):
            raise ValueError(f"{begin}-{number:0{len(count)}}-of-{count}{suffix} is missing: there "
                             f"are {len(numbers)} of {int(count)} such files")
