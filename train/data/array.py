"""Arrays in a .npz, .npy or .pth file, or in a folder of them: images or vectors."""

import pathlib

import numpy as np

from train.data.array_file import SUFFIXES, is_large, read_arrays
from train.data.array_labels import labels_of, part_of, part_of_labels
from train.data.examine import examine_images
from train.data.examine_rows import examine_rows, warn_of_repeats
from train.data.file_kinds import check_kind
from train.data.labels import of_labels
from train.data.named_parts import files_of_parts
from train.data.scaler import column_names, label
from train.data.source import SPLITS, from_arrays, warn
from train.data.stored import Pixels, Stored, source_of, splits_of, taken
from train.settings import wants_labels

__all__ = ["source"]

_ACCEPTED = ("uint8 images [n, H, W] or [n, H, W, C], or vectors [n, D] of other numbers, in one "
             "array, or in arrays named train, test and, optionally, validation")


def source(settings):
    """Images of 8 bits or vectors, parted by the file or else by --seed.

    The parts of a .npz file are its arrays train, test and validation (or val, or valid), also as
    x_train or train_images; other arrays are left out, and said to be. A .pth file is what
    `torch.save` makes of a tensor or of a dictionary of tensors. Whole numbers from 0 to 255 are
    taken as uint8. Images `[n, C, H, W]` are turned to `[n, H, W, C]`, and rows of bytes named
    `data`, as of downsampled ImageNet, to images. A folder has images in one or several files for
    each part, see `files_of_parts`. Large arrays of images stay in their files.

    Labels, where they are asked for, are arrays beside these, y or y_train and y_test, in each file
    of a folder, or in the file of --labels.

    Vectors are taken as they are, not standardised: as float32, where that holds their digits.
    """
    path, wanted = pathlib.Path(settings.dataroot), wants_labels(settings)
    parts = _read(path, wanted and not settings.labels)
    counts = {part: len(array) for part, array in parts.items()}
    splits = splits_of(counts, settings, str(path))
    labels = taken(labels_of(path, settings, counts), splits) if wanted else None
    parts = taken(parts, splits)
    shapes = {s: a.shape[1:] for s, a in parts.items()}
    kinds = {a.dtype.kind for a in parts.values()}
    if len(set(shapes.values())) > 1 or len(kinds) > 1 or min(map(len, parts.values())) < 1:
        found = ", ".join(f"{s}: {a.dtype} {list(a.shape)}" for s, a in parts.items())
        raise ValueError(f"{path}: the parts must not be empty and have examples of one kind and "
                         f"shape. Found {found}")
    beside = of_labels(settings.labels or str(path), labels, settings)
    if parts["train"].dtype != np.uint8:
        parts = _as_float32(path, parts)
        warn_of_repeats(path, parts)
        return from_arrays("vector", parts, **beside)
    if any(isinstance(part, Stored) for part in parts.values()):
        made = source_of({s: a if isinstance(a, Stored) else Stored([Pixels(a)])
                          for s, a in parts.items()}, **beside)
    else:
        warn_of_repeats(path, parts)
        made = from_arrays("image", parts, nbits=8, **beside)
    examine_images(made.fetch["train"], made.counts["train"], settings, str(path))
    return made


def _read(path, labelled):
    """The examples by part, or of no part, `""`; `labelled`: with labels beside them."""
    check_kind(path, "array")
    parts = _of_folder(path, labelled) if path.is_dir() else _opened(path, labelled)
    if "train" not in parts and len(parts) == 1:
        return {"": array for array in parts.values()}
    return parts


def _of_folder(root, labelled):
    """`{part: Stored}` of the images in all files."""
    pieces: dict = {}
    for part, paths in files_of_parts(root, SUFFIXES).items():
        for path in paths:
            [array] = _opened(path, labelled, alone=True).values()
            if array.dtype != np.uint8 or array.ndim != 4:
                raise ValueError(f"{path}: expected uint8 images, as in all files of a folder. "
                                 f"Found {array.dtype} {list(array.shape)}")
            stored = array if isinstance(array, Stored) else Pixels(array)
            first = next(iter(pieces.values()))[0] if pieces else stored
            if stored.shape[1:] != first.shape[1:]:
                raise ValueError(f"{path}: images of {list(stored.shape[1:])}, and those of other "
                                 f"files in {root} are of {list(first.shape[1:])}")
            pieces.setdefault(part, []).append(stored)
    return {part: Stored(own) for part, own in pieces.items()}


def _opened(path, labelled, alone=False):
    """The arrays that hold examples, by part; `alone`: one array of no part."""
    def choose(names):
        return _parts(path, names, labelled, alone)

    return {name: _checked(path, name, array)
            for name, array in read_arrays(path, choose).items()}


def _parts(path, names, labelled, alone):
    """The names of the arrays that hold examples: of the parts, or one of all."""
    of_labels = {name for name in names if part_of_labels(name) is not None}
    others = [name for name in names if name not in of_labels]
    named = {name: part for name in others if (part := part_of(name))}
    if {"train", "test"} <= set(named.values()) and not alone:
        chosen = named
    else:
        chosen = dict.fromkeys(others, "all")
        if len(chosen) == 2 and {"data", "mean"} == set(chosen):
            del chosen["mean"]  # of all training images, in downsampled ImageNet
    if len(set(chosen.values())) < len(chosen) or not chosen:
        raise ValueError(f"{path}: expected {_ACCEPTED}. Found arrays named "
                         f"{', '.join(sorted(names)) or 'nothing'}")
    if left_out := sorted(set(names) - set(chosen) - (of_labels if labelled else set())):
        warn(f"{path}: left out: {', '.join(left_out)}")
    order = (*SPLITS, "all")
    return {part if part != "all" else name: name
            for name, part in sorted(chosen.items(), key=lambda item: order.index(item[1]))}


def _checked(path, name, array):
    """An array as uint8 images `[n, H, W, C]` or floating-point vectors `[n, D]`."""
    if array.ndim == 2 and array.dtype == np.uint8 and name == "data":
        array = _unfolded(array)
    if array.ndim == 2 and array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.float64)
    if array.ndim in (3, 4) and array.dtype.kind in "uif" and _are_levels(array):
        array = array.astype(np.uint8)
    images = array.dtype == np.uint8
    if images and array.ndim == 4:
        turned = array.shape[1] in (1, 3) and array.shape[3] not in (1, 3)
        if turned:
            warn(f"{path}: {name} {list(array.shape)} is taken as [n, C, H, W]")
        if is_large(array):
            return Stored([Pixels(array, channels_first=turned)])
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if turned else array
    if images and array.ndim == 3 and array.shape[2] not in (3, 4):  # else one image in colour
        return Stored([Pixels(array)]) if is_large(array) else array[..., None]
    if array.dtype.kind == "f" and array.ndim == 2:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = bad[0]
            raise ValueError(f"{path}: {name}[{row}, {column}] is not finite "
                             f"({array[row, column]})")
        return array
    raise ValueError(f"{path}: expected {_ACCEPTED}. Found {name}: {array.dtype} "
                     f"{list(array.shape)}{_advice(array)}")


def _unfolded(array):
    """Rows of `3 S S` bytes, all of red first, as images `[n, 3, S, S]`."""
    side = round((array.shape[1] / 3) ** 0.5)
    return array.reshape(-1, 3, side, side) if array.shape[1] == 3 * side ** 2 else array


def _are_levels(array):
    """Whether all are whole numbers that 8 bits hold, and not just 0 and 1."""
    if array.dtype == np.uint8 or not array.size:
        return False
    return (1 < array.max() <= 255) and array.min() >= 0 and bool(np.all(array == np.rint(array)))


def _advice(array):
    if array.ndim == 1:
        return ". One number an example is [n, 1]: array[:, None]"
    if array.ndim == 2 and array.dtype.kind in "bu":
        return (". Images are [n, H, W] or [n, H, W, C]; whole numbers have no density: add noise "
                "that is uniform in [0, 1)")
    if array.ndim == 3 and array.dtype == np.uint8:
        return ", which looks like one image in colour, not n in grey"
    if array.ndim in (3, 4) and array.dtype.kind == "f" and array.min() >= 0 and array.max() <= 1:
        return ". Images in [0, 1] are numpy.round(255 * array).astype('uint8')"
    if array.ndim in (3, 4):
        return ". The levels of images are whole numbers from 0 to 255"
    return ""


def _as_float32(path, parts):
    """Vectors as float32; a column must be no constant, and have its digits there."""
    train = parts["train"].astype(np.float64)
    size, spread = np.abs(train).max(axis=0), train.std(axis=0)
    columns = column_names(train.shape[1])
    for column, values, largest, std in zip(columns, train.T, size, spread):
        if np.ptp(values) == 0:
            raise ValueError(f"{path}: {label(column)} is constant: it has no density. Remove it")
        step = np.spacing(np.float32(min(largest, 1e38)))
        if largest > np.finfo(np.float32).max or std < 100 * step:
            raise ValueError(
                f"{path}: {label(column)} has values to {largest:.3g} and a standard deviation of "
                f"{std:.3g}, and float32 has steps of {step:.1g} there. Standardise it first; "
                "--data=csv does so by itself")
    examine_rows(path, columns, train)
    return {s: a.astype(np.float32) for s, a in parts.items()}
