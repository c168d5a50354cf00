"""Functions that are traced once for all blocks that are equal, and which may be.

A function is traced once and its graph is called from then on. So what may be shared is what
computes the same for as long as the program runs.
"""

import builtins
import dataclasses
import dis
import functools
import numbers
import sys
import types

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import xla
from tfresflow.functions.derivatives import is_followed

__all__ = ["is_shareable", "shared"]

# What their functions read does not change while a program runs.
_LIBRARIES = {"bijectors", "keras", "math", "numpy", "tensorflow", "tfresflow"}
_CONSTANTS = (type(None), bool, numbers.Number, str, bytes, type(Ellipsis), tf.DType)
_DEFINITIONS = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, np.ufunc)


def shared(function, *static):
    """`function` with its first arguments bound, traced once for all equal ones.

    In a flow of many equal blocks the outer graph then has one call a block in place of a copy
    of the block: tracing and graph optimisation no longer grow with the depth.

    Args:
      function: of tensors, after the static arguments; of a module, not a closure.
      *static: hashable objects that say what is computed. If one of them is not `is_shareable`,
        nothing is shared.

    Returns:
      A function of the remaining arguments: tensors, whose shapes follow from that of the first
      one `[N, ...]`, and lists of weights. It is traced for the first N that it meets and once
      more, with N unknown, for all others; what it returns has the N that it was given.
    """
    if not all(map(is_shareable, static)):
        return functools.partial(function, *static)

    def call(*args):
        if is_followed(filter(tf.is_tensor, tf.nest.flatten(args))):  # not into its graph
            return function(*static, *args)
        traced = _traced(function, static, _shapes(static, args), xla.is_compiling())
        x, size = traced.sized(args[0])
        return _with_size(traced.run(x, *args[1:]), size)

    return call


def is_shareable(static):
    """Whether what is built on `static` may serve all that is equal to it.

    Objects with an attribute `shareable` say it. Else constants may, and functions that cannot
    come to compute something else: neither bound methods nor closures, that read no globals but
    functions of the same kind and what belongs to TensorFlow, Keras or NumPy. A number in a global
    may be another one at the next call, an object may have another state. Tuples and frozen
    dataclasses may if all that they hold, and their methods, may.
    """
    if isinstance(static, keras.layers.Layer):
        return False
    if hasattr(static, "shareable"):
        return static.shareable
    if isinstance(static, tuple):
        return all(map(is_shareable, static))
    if dataclasses.is_dataclass(static) and not isinstance(static, type):
        return _is_frozen(static)
    return isinstance(static, _CONSTANTS) or _is_unchanging(static, frozenset())


def _is_frozen(static):
    """Whether fields and methods of a dataclass are unchanging."""
    fields = (getattr(static, f.name) for f in dataclasses.fields(static))
    return (static.__dataclass_params__.frozen and all(map(is_shareable, fields))
            and all(_reads_nothing_that_changes(m, frozenset()) for m in _methods(type(static))))


def _methods(cls):
    """The functions that a class of the user's own has been given, inherited ones included."""
    for base in cls.__mro__:
        for name, value in vars(base).items() if not _is_of_library(base) else ():
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(value, types.FunctionType) and (name[:2] != "__" or name == "__call__"):
                yield value


def _is_unchanging(value, seen):
    """Whether a function or a module stays what it is; `seen`: functions being looked into."""
    if _is_of_library(value):
        return True
    if not isinstance(value, types.FunctionType):
        return False
    defaults = (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    return (value in seen or all(map(is_shareable, defaults))
            and _reads_nothing_that_changes(value, seen | {value}))


def _is_of_library(value):
    """Whether a module, a function or a class is one that a library has under its name."""
    if isinstance(value, types.ModuleType):
        return value.__name__.split(".")[0] in _LIBRARIES
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)
            and module.split(".")[0] in _LIBRARIES):
        return False
    return functools.reduce(lambda owner, name: getattr(owner, name, None), name.split("."),
                            sys.modules.get(module)) is value


def _reads_nothing_that_changes(function, seen):
    """Whether all that a function reads, besides its arguments, is unchanging."""
    code = function.__code__
    found = _reads(code)
    return (set(code.co_freevars) <= {"__class__"} and found is not None
            and all(_stays(function, path, seen) for path in found))


def _stays(function, path, seen):
    """Whether the global `a.b` of path `(a, b)` of a function is unchanging."""
    first, *names = path
    owner, value = builtins, function.__globals__.get(first, getattr(builtins, first, None))
    if first in function.__globals__:
        owner = None
    for name in names:
        if not isinstance(value, (types.ModuleType, type)):
            break
        owner, value = value, getattr(value, name, None)
    if owner is builtins or owner is not None and _is_of_library(owner):
        bound = not isinstance(getattr(value, "__self__", builtins), types.ModuleType)
        return isinstance(value, (*_CONSTANTS, *_DEFINITIONS)) and not bound
    return _is_unchanging(value, seen)


@functools.lru_cache(maxsize=4096)
def _reads(code):
    """Paths of the globals that a function reads, or None if it sets or imports any."""
    found, path = [], None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL", "IMPORT_NAME"):
            return None
        if instruction.opname == "LOAD_GLOBAL":
            path = [instruction.argval]
            found.append(path)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and path:
            path.append(instruction.argval)
        else:
            path = None
    inner = [_reads(constant) for constant in code.co_consts
             if isinstance(constant, types.CodeType)]
    return None if None in inner else [*found, *(path for own in inner for path in own)]


class _Traced:
    """A function that is traced for the first batch size, and once more for all others."""

    def __init__(self, function):
        self._first = None
        self.run = tf.function(function, autograph=False, reduce_retracing=True,
                               experimental_attributes={"_noinline": True})

    def sized(self, x):
        """`(x, n)`: what to call `run` with, and N where it is unknown inside but not outside."""
        if isinstance(x, list) or not x.shape.rank:
            return x, None
        n = x.shape[0]
        self._first = self._first or (n,)
        if n is None or n == self._first[0] or tf.executing_eagerly():
            return x, None
        return tf.reshape(x, x.shape), n  # which keeps that from the gradient with respect to x


def _with_size(outputs, n):
    """The tensors `outputs`, whose first axis is n where it is unknown and n is not None."""
    for output in tf.nest.flatten(outputs) if n is not None else ():
        if output.shape.rank:
            output.set_shape([n if output.shape[0] is None else output.shape[0],
                              *output.shape[1:]])
    return outputs


def _shapes(static, args):
    """What a trace is for, apart from the batch size."""
    x = args[0]
    event = () if isinstance(x, list) else (x.dtype, tuple(x.shape[1:]))
    shapes = [tuple(tensor.shape) for arg in args if isinstance(arg, list) for tensor in arg]
    rows = max((getattr(own, "num_rows", 0) for own in static), default=0)
    first = len(shapes) - rows
    return event, tuple(shapes[:first]), tuple(shape[1:] for shape in shapes[first:])


@functools.lru_cache(maxsize=256)
def _traced(function, static, shapes, compiled):
    del shapes, compiled  # parts of the key
    return _Traced(functools.partial(function, *static))
