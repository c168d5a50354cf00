"""Pickles of PyTorch, read without running what they name.

A pickle is a program: it may name any function and call it. Here it gets numbers, strings,
containers, tensors, and inert records for classes of `resflows` and `torch.nn`. Any other name ends
the reading.
"""

import collections
import pickle

__all__ = ["DTYPES", "Record", "Refused", "Unpickler"]

DTYPES = {"FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8",
          "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
          "BoolStorage": "?"}
_SETS = ("builtins", "set"), ("__builtin__", "set")


class Refused(ValueError):
    """A pickle names something that is not read."""


class Record:
    """What a pickle says of an object: the name of its class, and its attributes.

    Attributes:
      kind: dotted name of the class, as `argparse.Namespace`.
      fields: `{name: value}`.
    """

    kind = ""

    def __init__(self, *args):
        del args  # what the class would be called with
        self.fields = {}

    def __new__(cls, *args):
        del args
        return super().__new__(cls)

    def __setstate__(self, state):
        if not isinstance(state, dict):
            raise Refused(f"it has a {self.kind} that is no table of attributes")
        self.fields = state


class _Call:
    """A function that a pickle may call, and change nothing of."""

    __slots__ = ("_function",)

    def __init__(self, function):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state):
        raise Refused("it changes a function")


class Unpickler(pickle.Unpickler):
    """Reads one pickle of a file.

    Args:
      file: open for reading bytes.
      storage: `(key, numpy dtype without byte order, number of elements) -> storage`.
      tensor: `(storage, offset, size, stride) -> tensor`.
    """

    def __init__(self, file, storage, tensor):
        super().__init__(file)
        self._storage = storage
        self._classes = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("argparse", "Namespace"): _record("argparse.Namespace"),
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): _Call(
                lambda storage, offset, size, stride, *_: tensor(storage, offset, size, stride)),
            ("torch._utils", "_rebuild_parameter"): _Call(lambda data, *_: data),
            **{("torch", name): dtype for name, dtype in DTYPES.items()},
            **dict.fromkeys(_SETS, set)}

    def find_class(self, module, name):
        if (module, name) not in self._classes:
            if not _is_recorded(module) or not name.isidentifier():
                raise Refused(f"it names {module}.{name}, which is no part of such a checkpoint "
                              "and is not run")
            self._classes[module, name] = _record(f"{module}.{name}")
        return self._classes[module, name]

    def persistent_load(self, pid):
        if isinstance(pid, tuple) and pid and pid[0] == "module":
            return pid[1]  # of old files: a class, and its source, which is not looked at
        if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage":
            raise Refused("it keeps something other than tensors beside its pickle")
        _, dtype, key, _, count = pid[:5]
        if dtype not in DTYPES.values() or not isinstance(key, str) or type(count) is not int:
            raise Refused(f"it has a tensor of a kind that is not known, {key!r}")
        return self._storage(key, dtype, count)


def _is_recorded(module):
    return any(module == root or module.startswith(root + ".") for root in ("resflows", "torch.nn"))


def _record(kind):
    return type("Record", (Record,), {"kind": kind})
