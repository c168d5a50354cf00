"""Sizes as users give them: numbers of Python or NumPy, sequences, a `tf.TensorShape`."""

import operator

import numpy as np

__all__ = ["as_size", "as_sizes"]


def as_size(name, given, least=1):
    """An integer of Python's from any whole number.

    Args:
      name: of the argument, for errors.
      given: what the user has given.
      least: that it may be.

    Raises:
      ValueError: naming the argument.
    """
    try:
        size = operator.index(given)
    except TypeError:
        size = least - 1
    if size < least or isinstance(given, bool):
        raise ValueError(f"`{name}` must be at least {least}, a whole number. "
                         f"Received: {name}={given!r}")
    return size


def as_sizes(name, given):
    """A tuple of positive integers from a sequence of them, or from a single one.

    Args:
      name: of the argument, for errors.
      given: what the user has given.

    Raises:
      ValueError: naming the argument.
    """
    try:
        return tuple(as_size(name, size) for size in _non_empty(given))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be one or more positive whole numbers. "
                         f"Received: {name}={given!r}") from error


def _non_empty(given):
    sizes = list(given) if np.iterable(given) else [given]
    if not sizes:
        raise ValueError("none")
    return sizes
