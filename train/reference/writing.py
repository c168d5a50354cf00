"""Files that `torch.load` reads, written without PyTorch."""

import math
import os
import pathlib
import pickle
import struct
import zipfile

import numpy as np

from train.reference.pickles import DTYPES, Record

__all__ = ["write"]

_CONSTANTS = {None: pickle.NONE, True: pickle.NEWTRUE, False: pickle.NEWFALSE}
_STORAGES = {np.dtype(kind): name for name, kind in DTYPES.items()}


def write(content, path):
    """Writes what `torch.load` gives back.

    Args:
      content: dictionaries with strings or numbers as keys, lists, tuples, numbers, strings, None,
        arrays, which become tensors, and `Record`s, which become objects of their `kind`. What has
        a shape, a dtype and `__array__`, as `Tensor`s, is asked for its numbers one at a time.
      path: of the file.

    Raises:
      ValueError: there is something else in it.

    Example: see `Checkpoint`.
    """
    path, pickler = pathlib.Path(path), _Pickler()
    pickler.save(content)
    part = path.with_name(path.name + ".part")  # a reader never sees half a file
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
            file.writestr("archive/data.pkl", b"".join(
                [pickle.PROTO, b"\x02", *pickler.out, pickle.STOP]))
            file.writestr("archive/byteorder", "little")
            for i, array in enumerate(pickler.arrays):
                _write_numbers(np.asarray(array), file, f"archive/data/{i}")
            file.writestr("archive/version", "3\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _write_numbers(array, file, name):
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    with file.open(name, "w", force_zip64=True) as entry:
        entry.write(little.reshape(-1).view(np.uint8).data)


class _Pickler:
    """A pickle of protocol 2 whose names need not be importable here."""

    def __init__(self):
        self.out, self.arrays = [], []

    def save(self, value):
        """Adds the operations that make `value`."""
        if value is None or isinstance(value, bool):
            self.out.append(_CONSTANTS[value])
        elif isinstance(value, int):
            data = pickle.encode_long(value)
            self.out += [pickle.LONG1, bytes([len(data)]), data]
        elif isinstance(value, float):
            self.out += [pickle.BINFLOAT, struct.pack(">d", value)]
        elif isinstance(value, str):
            data = value.encode()
            self.out += [pickle.BINUNICODE, struct.pack("<I", len(data)), data]
        elif isinstance(value, dict):
            self._items(pickle.EMPTY_DICT, value)
        elif isinstance(value, tuple):
            self._tuple(*value)
        elif isinstance(value, list):
            self.out += [pickle.EMPTY_LIST, pickle.MARK]
            for item in value:
                self.save(item)
            self.out.append(pickle.APPENDS)
        elif isinstance(value, Record):
            self._global(*value.kind.rsplit(".", 1))
            self.out += [pickle.EMPTY_TUPLE, pickle.NEWOBJ]
            self.save(value.fields)
            self.out.append(pickle.BUILD)
        elif hasattr(value, "__array__"):
            self._tensor(value)
        else:
            raise ValueError(f"`content` has a {type(value).__name__}, which has no place in a "
                             "file of torch.save")

    def _items(self, empty, value):
        self.out += [empty, pickle.MARK]
        for key, item in value.items():
            self.save(key)
            self.save(item)
        self.out.append(pickle.SETITEMS)

    def _global(self, module, name):
        self.out.append(pickle.GLOBAL + f"{module}\n{name}\n".encode())

    def _tuple(self, *values):
        self.out.append(pickle.MARK)
        for value in values:
            self.save(value)
        self.out.append(pickle.TUPLE)

    def _tensor(self, array):
        """A call of what PyTorch makes tensors with, of a storage beside the pickle."""
        dtype = np.dtype(array.dtype).newbyteorder("=")
        if dtype not in _STORAGES:
            raise ValueError(f"`content` has an array of {dtype}, which PyTorch does not have")
        self._global("torch._utils", "_rebuild_tensor_v2")
        self.out += [pickle.MARK, pickle.MARK]
        self.save("storage")
        self._global("torch", _STORAGES[dtype])
        shape = tuple(map(int, array.shape))
        for item in (str(len(self.arrays)), "cpu", math.prod(shape)):
            self.save(item)
        self.out += [pickle.TUPLE, pickle.BINPERSID]
        self.arrays.append(array)
        strides = tuple(math.prod(shape[i + 1:]) for i in range(len(shape)))
        for item in (0, shape, strides, False):
            self.save(item)
        self._global("collections", "OrderedDict")
        self.out += [pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.TUPLE, pickle.REDUCE]
