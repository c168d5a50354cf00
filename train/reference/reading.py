"""Files of `torch.save`: tensors that are read when they are asked for.

Two formats: a zip of a pickle and of raw numbers (PyTorch 1.6 and later), and several pickles with
the numbers behind them (before; the published checkpoints are of 2019).
"""

import contextlib
import dataclasses
import math
import pathlib
import struct
import typing
import zipfile

import numpy as np

from train.files import stored_at
from train.reference.pickles import Record, Refused, Unpickler

__all__ = ["Checkpoint", "Record", "Tensor"]

_MAGIC = 0x1950a86a20f9469cfc6c  # that old files begin with


class Tensor:
    """A tensor in a file: `shape`, `dtype`, and the numbers by `numpy.asarray(tensor)`."""

    def __init__(self, storage, offset, shape, stride):
        self._storage, self._offset, self._stride = storage, offset, stride
        self.shape, self.dtype = tuple(shape), storage.dtype.newbyteorder("=")

    def __array__(self, dtype=None, copy=None):
        del copy  # it is always made
        count = 1 + sum((n - 1) * s for n, s in zip(self.shape, self._stride))
        numbers = self._storage.read(self._offset, count if 0 not in self.shape else 0)
        array = self._viewed(numbers.astype(self.dtype, copy=False))
        return np.array(array, dtype or self.dtype, order="C", copy=None)

    def mapped(self):
        """The numbers as an array that stays in the file; None where they are compressed."""
        place = self._storage.place()
        if place is None or 0 in self.shape:
            return None
        path, begin = place
        numbers = np.memmap(path, self._storage.dtype, "r", begin, (self._storage.count,))
        return self._viewed(numbers[self._offset:])

    def _viewed(self, numbers):
        strides = [s * numbers.itemsize for s in self._stride]
        return np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False)


class Checkpoint(contextlib.AbstractContextManager):
    """A file of `torch.save`, open as long as its tensors are wanted.

    No code of the file is run, and no PyTorch is needed.

    Args:
      path: of the file.

    Attributes:
      content: what was saved: dictionaries, lists, numbers, `Tensor`s, and `Record`s in place of
        other objects.

    Raises:
      ValueError: one line: the file is not of `torch.save`, damaged, or names something that does
        not belong into a checkpoint of the reference.
      OSError: it cannot be opened.

    Example:
      >>> import os, tempfile
      >>> import numpy as np
      >>> from train.reference import Checkpoint, write
      >>> path = os.path.join(tempfile.mkdtemp(), "x.pth")
      >>> write({"weight": np.float32([1, 2])}, path)
      >>> with Checkpoint(path) as checkpoint:
      ...     np.asarray(checkpoint.content["weight"])
      array([1., 2.], dtype=float32)
    """

    def __init__(self, path):
        path = pathlib.Path(path)
        self._file = open(path, "rb")  # until `close`
        try:
            storages = _Zip(self._file) if zipfile.is_zipfile(self._file) else _Old(self._file)
            self.content = storages.content()
        except Exception as error:
            self.close()
            if isinstance(error, Refused):
                raise ValueError(f"{path} is not read: {error}") from None
            raise ValueError(f"{path} is no whole file of torch.save "
                             f"({type(error).__name__}: {error})") from error

    def close(self):
        """Closes the file; its tensors can be read no more."""
        self._file.close()

    def __exit__(self, *exception):
        self.close()


def _tensor(storage, offset, size, stride):
    """The `Tensor`, if it lies within its storage."""
    numbers = [offset, *size, *stride]
    if any(type(n) is not int or n < 0 for n in numbers) or len(size) != len(stride):
        raise Refused("it has a tensor whose shape is not one")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride))
    if math.prod(size) and last >= storage.count:
        raise Refused("it has a tensor that is larger than what is stored of it")
    return Tensor(storage, offset, size, stride)


@dataclasses.dataclass(frozen=True)
class _Storage:
    """Numbers of a file.

    Attributes:
      read: `(offset, count) -> array`.
      place: a function without arguments: `(path, byte)` where they begin, None if they are packed.
      dtype: as it is in the file.
      count: of the numbers.
    """

    read: typing.Callable
    place: typing.Callable
    dtype: np.dtype
    count: int


class _Zip:
    """The newer format: `NAME/data.pkl`, `NAME/data/KEY`."""

    def __init__(self, file):
        self._zip = zipfile.ZipFile(file)
        found = [name for name in self._zip.namelist() if name.endswith("/data.pkl")]
        if len(found) != 1:
            raise Refused("it is a zip without data.pkl")
        self._root = found[0].removesuffix("data.pkl")
        order = self._root + "byteorder"
        is_big = order in self._zip.namelist() and self._zip.read(order) == b"big"
        self._order = ">" if is_big else "<"

    def content(self):
        """What was saved."""
        with self._zip.open(self._root + "data.pkl") as file:
            return Unpickler(file, self._storage, _tensor).load()

    def _storage(self, key, dtype, count):
        name, dtype = f"{self._root}data/{key}", np.dtype(self._order + dtype)
        if self._zip.getinfo(name).file_size < count * dtype.itemsize:
            raise Refused(f"it ends within the tensor {key}")

        def read(offset, count):
            numbers = np.frombuffer(self._zip.read(name), dtype)
            return numbers[offset:offset + count]

        def place():
            begin = stored_at(self._zip, name)
            return None if begin is None else (self._zip.filename, begin)

        return _Storage(read, place, dtype, count)


class _Old:
    """The older format: pickles one after the other, then all storages."""

    def __init__(self, file):
        self._file, self._places = file, {}
        self._sizes = {}

    def content(self):
        """What was saved."""
        self._file.seek(0)
        if self._load() != _MAGIC:
            raise Refused("it is no file of torch.save")
        self._load()  # number of the protocol
        if not self._load().get("little_endian", True):
            raise Refused("it was written on a machine of another byte order")
        content, keys = self._load(), self._load()
        for key in keys:
            size = struct.unpack("<q", self._file.read(8))[0]
            dtype, count = self._sizes[key]
            if size != count:
                raise Refused(f"it has {size} numbers of a tensor of {count}")
            self._places[key] = self._file.tell()
            self._file.seek(count * dtype.itemsize, 1)
        if set(self._sizes) - set(keys) or self._file.tell() > self._file.seek(0, 2):
            raise Refused("it ends within a tensor")
        return content

    def _load(self):
        return Unpickler(self._file, self._storage, _tensor).load()

    def _storage(self, key, dtype, count):
        dtype = np.dtype("<" + dtype)
        self._sizes[key] = dtype, count

        def read(offset, count):
            self._file.seek(self._places[key] + offset * dtype.itemsize)
            return np.frombuffer(self._file.read(count * dtype.itemsize), dtype)

        return _Storage(read, lambda: (self._file.name, self._places[key]), dtype, count)
