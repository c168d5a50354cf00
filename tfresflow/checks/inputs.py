"""What a model is given: arrays of any kind, as `[N, *event_shape]` of numbers, or one clear error.

Nothing is lost on the way: a type that a flow's weights cannot hold, or a shape that could mean
two things, is an error that names the argument.
"""

import collections.abc
import types

import numpy as np
import tensorflow as tf

from tfresflow.checks.beside import check_weights
from tfresflow.checks.events import as_numbers, from_frame, take

__all__ = ["as_array", "as_events", "check_digits", "check_finite", "check_pipeline", "check_rows",
           "check_scaled", "first_nonfinite", "place", "shaped"]

_CHUNK = 2 ** 22  # entries that are looked at in one go


def as_array(name, x):
    """`x` as an array that can be sliced, or None where it is a pipeline of batches.

    Args:
      name: of the argument, for errors.
      x: a NumPy array, a tensor, a list of rows, a pandas DataFrame, ...; or a `tf.data.Dataset`, a
        generator, a `keras.utils.PyDataset`, ...

    Raises:
      ValueError: if `x` is not one array of numbers.
    """
    if isinstance(x, (collections.abc.Mapping, tf.SparseTensor, tf.RaggedTensor, str)) or x is None:
        keys = f" with the keys {list(x)}" if isinstance(x, collections.abc.Mapping) else ""
        raise ValueError(f"`{name}` must be one dense array of numbers. "
                         f"Received: {type(x).__name__}{keys}")
    if isinstance(x, (tf.Tensor, tf.Variable)):
        return as_numbers(name, x)
    if hasattr(x, "__array__") or isinstance(x, (list, tuple)) or np.isscalar(x):
        return _numpy(name, x)
    return None


def as_events(name, x, event_shape, dtype):
    """`x` as a tensor `[N, *event_shape]` of floats, eager or traced.

    Args:
      name: of the argument, for errors.
      x: see `as_array`.
      event_shape: shape of one example, or None for any.
      dtype: of the result; None for that of `x`.
    """
    array = as_array(name, x)
    if array is None:
        raise ValueError(f"`{name}` must be one dense array of numbers. "
                         f"Received: {type(x).__name__}")
    if event_shape is None:
        x = as_numbers(name, array)
        return x if dtype is None else tf.cast(x, dtype)
    return take(name, shaped(name, array, event_shape), event_shape, dtype)


def shaped(name, x, event_shape):
    """`x` as `[N, *event_shape]`: where the last axis is of size 1 and missing, it is added."""
    shape = tf.TensorShape(x.shape)
    missing = _missing_axes(shape, event_shape)
    if missing is None:
        hint = ", one example: a batch has one more axis, N" if shape == event_shape else ""
        raise ValueError(f"`{name}` must be [{', '.join(['N', *map(str, event_shape)])}]. "
                         f"Received: shape={tuple(shape)}{hint}")
    return x[..., None] if missing else x


def check_pipeline(name, data, event_shape):
    """Raises `ValueError` unless `data` can be a pipeline of batches of examples for Keras."""
    once = isinstance(data, collections.abc.Iterator)
    if once and not isinstance(data, types.GeneratorType) or not hasattr(data, "__iter__"):
        raise ValueError(f"`{name}` must be an array, or batches in a tf.data.Dataset, a generator "
                         f"or a keras.utils.PyDataset. Received: {type(data).__name__}")
    if not isinstance(data, tf.data.Dataset):
        return
    spec = data.element_spec
    x = spec[0] if isinstance(spec, tuple) else spec
    if not isinstance(x, tf.TensorSpec):
        raise ValueError(f"`{name}` must have elements x, (x,), (x, y) or (x, y, weights), where x "
                         f"is one dense tensor. Received: elements {spec}")
    if _missing_axes(x.shape, event_shape) is None:
        single = x.shape == event_shape or not x.shape.rank
        hint = ", one example each: use .batch(n)" if single else ""
        raise ValueError(f"`{name}` must have batches [N, {', '.join(map(str, event_shape))}]. "
                         f"Received: elements of shape {tuple(x.shape)}{hint}")
    if isinstance(spec, tuple) and len(spec) == 3 and hasattr(spec[2], "shape"):
        check_weights("sample_weight", spec[2].shape, x.shape[0], "x")


def _missing_axes(shape, event_shape):
    """How many axes `shape` lacks at its end to be `[N, *event_shape]`: 0, 1, or None: another."""
    if event_shape is None or shape.rank is None:
        return 0
    event_shape = tuple(event_shape)
    if shape.rank and shape[1:].is_compatible_with(event_shape):
        return 0
    if shape.rank and event_shape[-1:] == (1,) and shape[1:].is_compatible_with(event_shape[:-1]):
        return 1
    return None


def check_rows(name, x):
    """Raises `ValueError` if `x [N, ...]` is known to be empty."""
    if x.shape[0] == 0:
        raise ValueError(f"`{name}` must have at least one row. Received: shape={tuple(x.shape)}")


def first_nonfinite(x):
    """Where the first entry of `x [N, ...]` is that is not finite, `(row, ...)`, or None."""
    rows = max(1, _CHUNK // max(1, int(np.prod(x.shape[1:]))))
    for i in range(0, x.shape[0], rows):
        chunk = np.asarray(x[i:i + rows])
        if chunk.dtype.kind == "f":
            finite = np.isfinite(chunk)
            if not finite.all():
                row, *entry = np.argwhere(~finite)[0].tolist()
                return (i + row, *entry)
    return None


def check_finite(name, x, columns=None):
    """Raises `ValueError` that names the first entry of `x [N, ...]` that is not finite.

    Args:
      name: of the argument.
      x: an array.
      columns: their names, if they have some.
    """
    found = first_nonfinite(x)
    if found is not None:
        raise ValueError(f"`{name}` must be finite. Received: {np.asarray(x[found])} in "
                         f"{place(found, columns)}")


def place(index, columns=None):
    """The place of an entry `(row, ...)` of the data, in words."""
    row, *entry = index
    if not entry:
        return f"row {row}"
    if len(entry) > 1:
        return f"row {row}, entry {tuple(entry)}"
    return f"row {row}, column {entry[0] if columns is None else repr(columns[entry[0]])}"


def check_digits(name, x, dtype):
    """Raises `ValueError` if a column of `x [N, ...]` loses in a cast what it tells.

    A column near 1e9 whose deviation is 1 is one of a few numbers in float32: what is learned then
    is how it was rounded.

    Args:
      name: of the argument.
      x: a NumPy array.
      dtype: what it is cast to.
    """
    if x.dtype.kind == "b" or x.dtype.itemsize <= 2 or x.dtype == dtype:
        return
    wide = x.reshape(len(x), -1).astype(np.float64)
    lost = np.square(wide - wide.astype(dtype).astype(np.float64)).mean(axis=0)
    if not lost.any():
        return
    bad = np.flatnonzero(lost > 1e-4 * wide.var(axis=0))
    bad = bad[wide.var(axis=0)[bad] > 0]
    if len(bad):
        values = wide[:, bad[0]]
        column = place((0, *np.unravel_index(bad[0], x.shape[1:]))).split(", ", 1)[-1]
        raise ValueError(f"`{name}` loses its digits in {np.dtype(dtype).name}, the type of the "
                         f"flow's weights: subtract a constant, or give the flow "
                         f"dtype=\"float64\". Received: {column} with mean {values.mean():.6g} "
                         f"and deviation {values.std():.3g}")


def check_scaled(name, x, nbits, values):
    """Raises `ValueError` if `x` cannot be images of `nbits` bits in [0, 1].

    Args:
      name: of the argument.
      x: an array.
      nbits: of the model.
      values: whether they are looked at, beside the type; samples may lie a little outside.
    """
    rule = (f"`{name}` must be floats in [0, 1] where the model has `nbits`: "
            f"(levels + uniform noise) / 2^{nbits}. Received: ")
    dtype = tf.as_dtype(x.dtype)
    if not dtype.is_floating:
        raise ValueError(f"{rule}dtype={dtype.name}")
    if values:
        low, high = (float(f(x)) for f in (tf.reduce_min, tf.reduce_max))
        if low < 0 or high > 1:
            raise ValueError(f"{rule}values from {low:.6g} to {high:.6g}")


def _numpy(name, x):
    """`x` as a NumPy array of a type that TensorFlow has; it stays in the host's memory."""
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(f"`{name}` must not have masked entries. "
                         f"Received: {int(np.ma.getmaskarray(x).sum())} of them")
    x = from_frame(name, x) if hasattr(x, "select_dtypes") else x
    try:
        array = np.asarray(x)
    except ValueError:
        raise ValueError(f"`{name}` must be one array of numbers [N, ...]. Received: "
                         f"{type(x).__name__} whose rows differ in length") from None
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"`{name}` must be one dense array of numbers. "
                             f"Received: {type(x).__name__} of objects") from None
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # bfloat16 and smaller
        array = array.astype(np.float32)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"`{name}` must be real numbers. Received: dtype={array.dtype}")
    native = array.dtype.newbyteorder("=")
    return array.astype(np.float64 if native.itemsize > 8 else native, copy=False)
