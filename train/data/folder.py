"""A folder of images, read file by file."""

import collections
import os
import pathlib

import numpy as np
import tensorflow as tf

from train.data.examine import examine_images
from train.data.file_kinds import check_kind
from train.data.image_file import SUFFIXES, decode, read_header
from train.data.labels import of_labels
from train.data.source import SPLITS, Source, cut_validation, split_by_seed, warn
from train.settings import wants_labels

__all__ = ["find_unreadable", "source"]


def source(settings):
    """Images `[S, S, C]`, S = --imagesize; where all are grey C = 1, else 3.

    Parts are the subfolders train, validation (or val, or valid) and test where there are train
    and test; a missing validation part is cut from train. Otherwise all files are parted by
    --seed, by sorted path. Hidden files and folders are passed over.

    Where labels are asked for, the first folder below that of a part is the class of an image, as
    for `keras.utils.image_dataset_from_directory`.

    Photographs are turned as their EXIF data says. Transparency is left out, and of 16 bits a
    channel the upper 8 are taken. Animations are refused.
    """
    root = pathlib.Path(settings.dataroot)
    parts = _parts(root, settings)
    labels = {s: _classes(root, paths) for s, paths in parts.items()} if (
        wants_labels(settings)) else None
    headers = {p: read_header(p) for p in sorted(p for paths in parts.values() for p in paths)}
    height, width = _target({p: header.size for p, header in headers.items()}, settings)
    channels = 1 if all(header.grey for header in headers.values()) else 3
    _warn(settings.dataroot, list(headers.values()), channels)
    mode = settings.resize_mode if settings.imagesize else "none"  # all of one size already
    read = _reader(height, width, channels, mode)
    foreign = not all(header.tensorflow for header in headers.values())
    fetch = {split: _fetch(paths, [headers[p].tensorflow for p in paths] if foreign else None,
                           read, (height, width, channels)) for split, paths in parts.items()}
    counts = {s: len(p) for s, p in parts.items()}
    examine_images(fetch["train"], counts["train"], settings, f"--dataroot={settings.dataroot}")
    return Source("image", (height, width, channels), counts, fetch, nbits=8,
                  **of_labels(f"--dataroot={root}", labels, settings))


def find_unreadable(settings):
    """After a failure: what is wrong with the first image that cannot be decoded, or None."""
    for path in _files(pathlib.Path(settings.dataroot)):
        try:
            decode(tf.constant(os.fsencode(path)), read_header(path).tensorflow, channels=3)
        except ValueError as error:
            return str(error)
        except tf.errors.OpError as error:
            reason = error.message.split("} ")[-1].split(" [Op:")[0].splitlines()[0]
            reason = reason.removeprefix("ValueError: ")
            return reason if str(path) in reason else f"{path}: not a readable image ({reason})"
    return None


def _files(folder, others=None):
    """All images in a folder and those below it; other files are counted by kind in `others`."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        for name in names:
            path = pathlib.Path(place, name)
            if _is_hidden(name):
                continue
            if path.suffix.lower() in SUFFIXES:
                found.append(path)
            elif others is not None:
                others[path.suffix.lower() or name] += 1
        if others is not None:
            others["links to folders"] += sum(os.path.islink(os.path.join(place, name))
                                              for name in folders)
    return sorted(found)


def _is_hidden(name):
    """Such as the copies `._x.png` that macOS makes, and its folder of them in a zip file."""
    return name.startswith(".") or name == "__MACOSX"


def _has_parts(root):
    return (root / "train").is_dir() and (root / "test").is_dir()


def _classes(root, paths):
    """Of each image the folder that is its class, an array `[n]` of texts."""
    levels = 1 if _has_parts(root) else 0
    for path in paths:
        if len(path.relative_to(root).parts) < levels + 2:
            raise ValueError(f"{path}: labels are the folders of images, "
                             f"{'train/CLASS' if levels else 'CLASS'}/image.png, and this image is "
                             "in none")
    return np.array([path.relative_to(root).parts[levels] for path in paths])


def _parts(root, settings):
    check_kind(root, "folder")
    folders = {"train": root / "train", "test": root / "test", "validation": _validation(root)}
    others = collections.Counter()
    files = _files(root, others)
    if _has_parts(root):
        parts = {split: _files(folders[split]) for split in SPLITS}
        others["images outside of train, validation and test"] = (
            len(files) - sum(map(len, parts.values())))
        if not folders["validation"].is_dir():
            _cut_validation(parts, settings)
    elif files:
        if folders["train"].is_dir() or folders["validation"].is_dir():
            warn(f"--dataroot={root} has no folders train and test: all files are parted by --seed")
        indices = split_by_seed(len(files), settings, str(root))
        parts = {s: list(np.array(files, dtype=object)[i]) for s, i in indices.items()}
    else:
        parts = {"": []}
    _say_what_is_left_out(root, others)
    for split, paths in parts.items():
        if not paths:
            part = f" in its {split} part" if split else " in it"
            raise ValueError(f"--dataroot={root}: no images{part} ({', '.join(sorted(SUFFIXES))})")
    return parts


def _validation(root):
    found = [root / name for name in ("validation", "val", "valid") if (root / name).is_dir()]
    if len(found) > 1:
        raise ValueError(f"--dataroot={root}: there must be one folder of validation. Found "
                         f"{', '.join(path.name for path in found)}")
    return found[0] if found else root / "validation"


def _cut_validation(parts, settings):
    files = np.array(parts["train"], dtype=object)
    own, held_out = cut_validation(len(files), settings)
    parts["train"], parts["validation"] = list(files[own]), list(files[held_out])


def _say_what_is_left_out(root, others):
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()) if count)
    if found:
        warn(f"--dataroot={root}: left out, as no images: {found}")


def _warn(root, headers, channels):
    grey = sum(header.grey for header in headers) if channels == 3 else 0
    for count, what in (
            (sum(header.transparent for header in headers), "are transparent: that is left out"),
            (sum(header.deep for header in headers), "have 16 bits: the upper 8 are taken"),
            (grey, "are grey among others in colour: they get three equal channels")):
        if count:
            warn(f"--dataroot={root}: {count} of {len(headers)} images {what}")


def _target(sizes, settings):
    """Height and width of what the model sees; mixed sizes only where they are made equal."""
    side = settings.imagesize
    if settings.resize_mode != "none" and side:
        return side, side
    first, size = next(iter(sizes.items()))
    wanted = (side, side) if side else size
    for path, other in sizes.items():
        if other != wanted:
            raise ValueError(
                f"{path} is {other[0]}x{other[1]}, {first if not side else '--imagesize'} is "
                f"{wanted[0]}x{wanted[1]}: give --imagesize with --resize_mode=crop or resize")
    return wanted


def _reader(height, width, channels, mode):
    """`path, whether TensorFlow decodes it -> uint8 [height, width, channels]`."""
    def read(path, tensorflow=None):
        image = decode(path, tensorflow, channels)
        if mode == "none":
            return tf.ensure_shape(image, [height, width, channels])
        if mode == "crop":
            side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
            image = tf.image.resize_with_crop_or_pad(image, side, side)
        # Area averaging is what does not alias when a photograph is made small.
        image = tf.image.resize(image[None], [height, width], tf.image.ResizeMethod.AREA)[0]
        return tf.cast(tf.round(image), tf.uint8)

    return read


def _fetch(paths, tensorflow, read, event_shape):
    paths = tf.constant([os.fsencode(p) for p in paths])
    signature = tf.TensorSpec(event_shape, tf.uint8)
    if tensorflow is None:
        return lambda indices: tf.map_fn(read, tf.gather(paths, indices),
                                         fn_output_signature=signature)
    tensorflow = tf.constant(tensorflow)
    return lambda indices: tf.map_fn(
        lambda given: read(*given), (tf.gather(paths, indices), tf.gather(tensorflow, indices)),
        fn_output_signature=signature)
