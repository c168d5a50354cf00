"""Examples as users give them, as tensors `[N, ...]` of numbers: converted, checked, cast."""

import keras
import numpy as np
import tensorflow as tf

__all__ = ["as_numbers", "from_frame", "of_contexts", "of_shape", "take"]


def take(name, x, event_shape, dtype=None, leading=1):
    """What a user gives as x, as a floating-point tensor `[N, *event_shape]`.

    Args:
      name: of the argument, for errors.
      x: a tensor, a variable, an array, nested lists or a pandas DataFrame, of floats of any size,
        integers or booleans.
      event_shape: shape of one example.
      dtype: that x is cast to; None: that of x if it is floating, else Keras's default.
      leading: dimensions before the event's; None for any number.

    Returns:
      A tensor: x itself if it is one of this kind already.

    Raises:
      ValueError: naming the argument, if x does not hold numbers or has another shape.
    """
    x = of_shape(name, as_numbers(name, x, dtype), event_shape, leading)
    if dtype is None:
        dtype = x.dtype if x.dtype.is_floating else keras.config.floatx()
    return x if x.dtype == dtype else tf.cast(x, dtype)


def of_contexts(context, shape, dtype):
    """`as_numbers` of what a user gives as contexts; those that should be `[1]` may be numbers."""
    context = as_numbers("context", context, dtype)
    numbers = context.shape.rank == 0 or context.shape.rank == 1 != context.shape[0]
    if numbers and tuple(shape) == (1,):
        context = context[..., None]
    return context


def as_numbers(name, x, dtype=None):
    """x as a dense tensor of real numbers; Python's numbers become `dtype` at once, exactly."""
    if hasattr(x, "select_dtypes"):
        x = from_frame(name, x)
    if not isinstance(x, (tf.RaggedTensor, tf.SparseTensor)):
        try:
            # An array has a dtype: with a hint, strings would be parsed, imaginary parts be lost.
            x = tf.convert_to_tensor(x, dtype_hint=None if hasattr(x, "dtype") else dtype)
        except (TypeError, ValueError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(f"`{name}` must be an array of numbers, all rows of one length. "
                             f"Received: {type(x).__name__} ({reason})") from error
        kind = tf.as_dtype(x.dtype)
        if kind.is_floating or kind.is_integer or kind.is_bool:
            return x
    raise ValueError(f"`{name}` must be a dense array of real numbers. "
                     f"Received: {type(x).__name__} of dtype {x.dtype.name}")


def of_shape(name, x, event_shape, leading=1):
    """x, its event shape static.

    Args:
      name: of the argument, for errors.
      x: a tensor.
      event_shape: shape of one example.
      leading: dimensions before the event's; None for any number.

    Raises:
      ValueError: unless x is `[N, *event_shape]`, as far as its shape is known.
    """
    event_shape, shape = tuple(event_shape), tf.TensorShape(x.shape)
    lead = "..." if leading is None else ", ".join("NM"[:leading])
    rule = f"`{name}` must be [{', '.join([lead, *map(str, event_shape)])}]. Received: "
    if shape.rank is None:
        if leading is None:
            raise ValueError(f"{rule}a shape of unknown rank (tf.ensure_shape says which it has)")
        shape = tf.TensorShape([None] * (leading + len(event_shape)))
    before = shape.rank - len(event_shape)
    fits = before >= 0 if leading is None else before == leading
    if not (fits and shape[before:].is_compatible_with(event_shape)):
        raise ValueError(f"{rule}shape={tuple(shape)}")
    known = x.shape.rank is not None and shape[before:].is_fully_defined()
    return x if known else tf.ensure_shape(x, [*shape[:before], *event_shape])


def from_frame(name, frame):
    """The columns of a pandas DataFrame as an array of float64."""
    strange = list(frame.select_dtypes(exclude=["number", "bool"]))
    if strange:
        raise ValueError(f"`{name}` must have columns of numbers only. Received: columns {strange} "
                         f"of dtype {[str(frame[column].dtype) for column in strange]}")
    return frame.to_numpy("float64", na_value=np.nan)
