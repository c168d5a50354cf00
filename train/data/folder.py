"""A folder of images, read file by file."""

import pathlib

import numpy as np
import PIL.Image
import tensorflow as tf

from train.data.source import SPLITS, Source, split_by_seed

__all__ = ["find_unreadable", "source"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp"}


def source(settings):
    """Images `[S, S, C]`, S = --imagesize; grey ones have C = 1, else 3.

    Parts are the subfolders train, validation (or val) and test where there are train and test;
    a missing validation part is cut from train. Otherwise all files are parted by --seed, by
    sorted path.
    """
    root = pathlib.Path(settings.dataroot)
    if not root.is_dir():
        raise FileNotFoundError(f"--dataroot={root}: no such folder")
    parts = _parts(root, settings)
    sizes, modes = _headers(sorted(p for paths in parts.values() for p in paths))
    height, width = _target(sizes, settings)
    channels = 1 if all(mode in ("L", "1") for mode in modes.values()) else 3
    mode = settings.resize_mode if settings.imagesize else "none"  # all of one size already
    read = _reader(height, width, channels, mode)
    fetch = {split: _fetch([str(p) for p in paths], read, (height, width, channels))
             for split, paths in parts.items()}
    return Source("image", (height, width, channels), {s: len(p) for s, p in parts.items()},
                  fetch, nbits=8)


def find_unreadable(settings):
    """After a failure: what is wrong with the first image that cannot be decoded, or None."""
    if settings.data != "folder":
        return None
    channels = source(settings).event_shape[-1]
    for path in _files(pathlib.Path(settings.dataroot)):
        try:
            tf.io.decode_image(tf.io.read_file(str(path)), channels)
        except tf.errors.OpError as error:
            reason = error.message.split("} ")[-1].split(" [Op:")[0]
            return f"{path}: not a readable image ({reason})"
    return None


def _files(folder):
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)


def _parts(root, settings):
    folders = {"train": root / "train", "test": root / "test",
               "validation": root / ("val" if (root / "val").is_dir() else "validation")}
    if folders["train"].is_dir() and folders["test"].is_dir():
        parts = {split: _files(folders[split]) for split in SPLITS}
        if not folders["validation"].is_dir():
            files = np.array(parts["train"], dtype=object)
            order = np.random.RandomState(settings.seed).permutation(len(files))
            keep = len(files) - max(1, round(len(files) * settings.val_fraction))
            parts["train"] = list(files[order[:keep]])
            parts["validation"] = list(files[order[keep:]])
    else:
        files = np.array(_files(root), dtype=object)
        if not len(files):
            raise ValueError(f"--dataroot={root}: no images in it ({', '.join(sorted(_SUFFIXES))})")
        parts = {s: list(files[i]) for s, i in
                 split_by_seed(len(files), settings, str(root)).items()}
    for split, paths in parts.items():
        if not paths:
            raise ValueError(f"--dataroot={root}: no images in its {split} part "
                             f"({', '.join(sorted(_SUFFIXES))})")
    return parts


def _headers(paths):
    """Size and mode of every file, from the header alone."""
    sizes, modes = {}, {}
    for path in paths:
        try:
            with PIL.Image.open(path) as image:
                sizes[path], modes[path] = (image.height, image.width), image.mode
        except OSError:
            raise ValueError(f"{path}: not a readable image") from None
    return sizes, modes


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
    """`path -> uint8 [height, width, channels]` in TensorFlow operations."""
    def read(path):
        image = tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)
        if mode == "none":
            return tf.ensure_shape(image, [height, width, channels])
        if mode == "crop":
            side = tf.minimum(tf.shape(image)[0], tf.shape(image)[1])
            image = tf.image.resize_with_crop_or_pad(image, side, side)
        # Area averaging is what does not alias when a photograph is made small.
        image = tf.image.resize(image[None], [height, width], tf.image.ResizeMethod.AREA)[0]
        return tf.cast(tf.round(image), tf.uint8)

    return read


def _fetch(paths, read, event_shape):
    paths = tf.constant(paths)
    signature = tf.TensorSpec(event_shape, tf.uint8)
    return lambda indices: tf.map_fn(read, tf.gather(paths, indices),
                                     fn_output_signature=signature)
