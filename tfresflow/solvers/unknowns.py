"""What a solver is given: a function of one tensor, and that tensor. Else an error of one line."""

import tensorflow as tf

from tfresflow.checks.rules import check_object

__all__ = ["check_args", "kept", "system", "taken"]


def taken(name, x):
    """`x` as a tensor of floats `[N, ...]`.

    Raises:
      ValueError: naming the argument, if it is none.
    """
    rule = f"`{name}` must be a tensor of floats [N, ...]. Received: "
    try:
        x = tf.convert_to_tensor(x)
    except (TypeError, ValueError):
        raise ValueError(f"{rule}{type(x).__name__}") from None
    if not x.dtype.is_floating or not x.shape.rank:
        raise ValueError(f"{rule}{_said(x)}")
    return x


def kept(name, function, of, x):
    """`function`, whose values are found to be of the shape and dtype of `x`.

    Args:
      name: of the argument `function`.
      function: of one tensor, and perhaps of more.
      of: name of the argument `x`.
      x: a tensor.

    Raises:
      ValueError: if it cannot be called; when it is called, if its value is of another kind.
    """
    check_object(name, function, f"be a function, and come before `{of}`", "__call__")
    rule = (f"`{of}` must have the shape and dtype of `{name}({of})`. "
            f"Received: {_said(x)} -> ")

    def same(*args):
        y = function(*args)
        try:
            y = tf.convert_to_tensor(y)
        except (TypeError, ValueError):
            raise ValueError(f"{rule}{type(y).__name__}") from None
        if y.dtype != x.dtype or not y.shape.is_compatible_with(x.shape):
            raise ValueError(f"{rule}{_said(y)}")
        return y

    return same


def system(matvec, b):
    """`(matvec, b)` of a linear system, as `kept` and `taken` make them."""
    b = taken("b", b)
    return kept("matvec", matvec, "b", b), b


def check_args(args):
    """Raises `ValueError` unless `args` is a list or tuple, of which each is an argument."""
    if not isinstance(args, (list, tuple)):
        raise ValueError("`args` must be a list or tuple, of which each is an argument of "
                         f"`function`. Received: {type(args).__name__}")


def _said(x):
    return f"{x.dtype.name} {x.shape}"
