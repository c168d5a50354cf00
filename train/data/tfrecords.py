"""Images in TFRecord files, as the preprocessing of Glow writes them."""

import os
import pathlib
import re
import struct

import numpy as np
import tensorflow as tf

from train.data.examine import examine_images
from train.data.file_kinds import RECORDS, check_kind
from train.data.named_parts import files_of_parts
from train.data.stored import Stored, parted, source_of

__all__ = ["Records", "find_damaged", "source"]

_RESOLUTION = re.compile(r"-r(\d\d)-")  # r08: 2^8 pixels a side


def source(settings):
    """Images `[H, W, C]` of a file, or of the files of a folder, that stay where they are.

    Each record is a `tf.train.Example` with the features `shape`, three integers H, W, C, and
    `data`, the H W C bytes; others, as `label`, are not looked at. Where files are of several
    resolutions (`-r05-` for 32 pixels, ...), those of --imagesize are taken. The records of a file
    are found once; then any of them is read on its own, so that the order of a run is the same as
    from any other kind of file.
    """
    root = pathlib.Path(settings.dataroot)
    check_kind(root, "tfrecords")
    files = _files(root, settings.imagesize)
    pieces = {part: [Records(path) for path in paths] for part, paths in files.items()}
    whole = [piece for own in pieces.values() for piece in own if piece.shape[0]]
    for piece in whole:
        if piece.shape[1:] != whole[0].shape[1:]:
            raise ValueError(f"{piece.path}: images of {list(piece.shape[1:])}, and those of "
                             f"{whole[0].path} are of {list(whole[0].shape[1:])}")
    for part, own in pieces.items():
        pieces[part] = [piece for piece in own if piece.shape[0]]
        if not pieces[part]:
            raise ValueError(f"--dataroot={root}: no images{' in its part ' * bool(part)}{part}")
    parts = parted({part: Stored(own) for part, own in pieces.items()}, settings, str(root))
    made = source_of(parts)
    examine_images(made.fetch["train"], made.counts["train"], settings, str(root))
    return made


def find_damaged(settings):
    """After a failure: what is wrong with the first record that cannot be read, or None."""
    for paths in _files(pathlib.Path(settings.dataroot), settings.imagesize).values():
        for path in paths:
            try:
                records = Records(path)
                for i in range(records.shape[0]):
                    records.read([i])
            except (ValueError, OSError) as error:
                return str(error)
    return None


class Records:
    """The images of one TFRecord file: `records.read(indices)` is uint8 `[B, H, W, C]`.

    Args:
      path: of the file, which is looked through for the beginnings of its records.

    Raises:
      ValueError: it is no TFRecord file, ends too early, or holds something else; names it.
    """

    def __init__(self, path):
        self.path = path
        self._begins, self._lengths = _index(path)
        first = self._image(0) if len(self._begins) else np.zeros([0, 0, 0], np.uint8)
        self.shape = (len(self._begins), *first.shape)

    def read(self, indices):
        """uint8 images, in this order."""
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for place, i in enumerate(indices):
            image = self._image(i)
            if image.shape != self.shape[1:]:
                raise ValueError(f"{self.path}: record {i} is an image of {list(image.shape)}, and "
                                 f"the first one is of {list(self.shape[1:])}")
            images[place] = image
        return images

    def _image(self, i):
        with open(self.path, "rb") as file:
            record = os.pread(file.fileno(), int(self._lengths[i]), int(self._begins[i]))
        try:
            features = tf.train.Example.FromString(record).features.feature
        except Exception:  # of protobuf, whose classes have several names
            raise ValueError(f"{self.path}: record {i} is damaged, or no tf.train.Example (a "
                             "packed file must be unpacked first)") from None
        shape, data = features["shape"].int64_list.value, features["data"].bytes_list.value
        if len(shape) != 3 or len(data) != 1 or len(data[0]) != np.prod(shape) or (
                shape[2] not in (1, 3)):
            raise ValueError(
                f"{self.path}: record {i} must have `shape`, H, W and C, and `data`, H W C bytes, "
                "as Glow's preprocessing writes them. Found "
                f"{', '.join(sorted(features)) or 'nothing'}; shape {list(shape)}, "
                f"{sum(map(len, data))} bytes")
        return np.frombuffer(data[0], np.uint8).reshape(shape)


def _index(path):
    """Where the records of a file begin, and their lengths, in bytes."""
    size, place, begins, lengths = path.stat().st_size, 0, [], []
    with open(path, "rb") as file:
        while place < size:  # length, its checksum, the record, its checksum
            header = os.pread(file.fileno(), 8, place)
            length = struct.unpack("<Q", header)[0] if len(header) == 8 else size
            begins.append(place + 12)
            lengths.append(length)
            place += length + 16
            if place > size:
                raise ValueError(f"{path}: it ends within record {len(begins) - 1}, or is no "
                                 "TFRecord file (a packed one must be unpacked first)")
    return np.array(begins, np.int64), np.array(lengths, np.int64)


def _files(root, side):
    """`{part: paths}`; of files of several resolutions, those of `side` pixels."""
    files = files_of_parts(root, RECORDS) if root.is_dir() else {"": [root]}

    def resolution(path):
        match = _RESOLUTION.search(path.name)
        return 2 ** int(match[1]) if match else 0

    found = sorted({resolution(path) for paths in files.values() for path in paths})
    if len(found) == 1:
        return files
    if side not in found:
        raise ValueError(f"--dataroot={root} has files of several resolutions: --imagesize must be "
                         f"one of {', '.join(map(str, found))}. Received: --imagesize={side}")
    chosen = {part: [path for path in paths if resolution(path) == side]
              for part, paths in files.items()}
    return {part: paths for part, paths in chosen.items() if paths}
