"""Arrays in a .npz or .npy file: images or vectors."""

import pathlib

import numpy as np

from train.data.array_labels import labels_of, member, opened, part_of, part_of_labels
from train.data.examine import examine_images
from train.data.examine_rows import examine_rows, warn_of_repeats
from train.data.file_kinds import check_kind
from train.data.labels import are_wanted, of_labels
from train.data.scaler import column_names, label
from train.data.source import SPLITS, cut_validation, from_arrays, split_by_seed, warn

__all__ = ["source"]

_ACCEPTED = ("uint8 images [n, H, W] or [n, H, W, C], or vectors [n, D] of other numbers, in one "
             "array, or in arrays named train, test and, optionally, validation")


def source(settings):
    """Images of 8 bits or vectors, parted by the file or else by --seed.

    The parts of a .npz file are its arrays train, test and validation (or val, or valid), also as
    x_train or train_images; other arrays are left out, and said to be. Whole numbers from 0 to 255
    are taken as uint8. Images `[n, C, H, W]` are turned to `[n, H, W, C]`.

    Labels, where they are asked for, are arrays beside these, y or y_train and y_test, or in the
    file of --labels.

    Vectors are taken as they are, not standardised: as float32, where that holds their digits.
    """
    path, wanted = pathlib.Path(settings.dataroot), are_wanted(settings)
    read = _read(path, beside=wanted and not settings.labels)
    parts = {name: _checked(path, name, array) for name, array in read.items()}
    labels = labels_of(path, settings, {part: len(array) for part, array in parts.items()}) if (
        wanted) else {}
    parts, labels = (_parted(path, settings, own) if own else own for own in (parts, labels))
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
    warn_of_repeats(path, parts)
    made = from_arrays("image", parts, nbits=8, **beside)
    examine_images(made.fetch["train"], made.counts["train"], settings, str(path))
    return made


def _parted(path, settings, parts):
    """Arrays of the three parts, of those that a file has: the same rows of arrays as long."""
    if "train" not in parts:
        [array] = parts.values()
        indices = split_by_seed(len(array), settings, str(path))
        return {s: array[i] for s, i in indices.items()}
    if "validation" in parts:
        return parts
    train, validation = cut_validation(len(parts["train"]), settings)
    return {**parts, "train": parts["train"][train], "validation": parts["train"][validation]}


def _read(path, beside):
    """The arrays that hold examples, by part; `beside`: labels are not said to be left out."""
    check_kind(path, "array")
    loaded = opened(path)
    if isinstance(loaded, np.ndarray):
        return {"array": loaded}
    return {part: member(path, loaded, name)
            for part, name in _parts(path, loaded.files, beside).items()}


def _parts(path, names, beside):
    """The names of the arrays that hold examples: of the parts, or one of all."""
    of_labels = [name for name in names if part_of_labels(name) is not None]
    named = {name: part for name in names if name not in of_labels and (part := part_of(name))}
    if {"train", "test"} <= set(named.values()):
        chosen = named
    else:
        chosen = {name: "all" for name in names if name not in of_labels}
    if len(set(chosen.values())) < len(chosen) or not chosen:
        raise ValueError(f"{path}: expected {_ACCEPTED}. Found arrays named "
                         f"{', '.join(sorted(names)) or 'nothing'}")
    if left_out := sorted(set(names) - set(chosen) - set(of_labels if beside else ())):
        warn(f"{path}: left out: {', '.join(left_out)}")
    order = (*SPLITS, "all")
    return {part if part != "all" else name: name
            for name, part in sorted(chosen.items(), key=lambda item: order.index(item[1]))}


def _checked(path, name, array):
    """An array as uint8 images `[n, H, W, C]` or floating-point vectors `[n, D]`."""
    if array.ndim == 2 and array.dtype.kind in "iu" and array.dtype != np.uint8:
        array = array.astype(np.float64)
    if array.ndim in (3, 4) and array.dtype.kind in "uif" and _are_levels(array):
        array = array.astype(np.uint8)
    images = array.dtype == np.uint8
    if images and array.ndim == 4:
        if array.shape[1] in (1, 3) and array.shape[3] not in (1, 3):
            warn(f"{path}: {name} {list(array.shape)} is taken as [n, C, H, W]")
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        return array
    if images and array.ndim == 3 and array.shape[2] not in (3, 4):  # else one image in colour
        return array[..., None]
    if array.dtype.kind == "f" and array.ndim == 2:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = bad[0]
            raise ValueError(f"{path}: {name}[{row}, {column}] is not finite "
                             f"({array[row, column]})")
        return array
    raise ValueError(f"{path}: expected {_ACCEPTED}. Found {name}: {array.dtype} "
                     f"{list(array.shape)}{_advice(array)}")


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
