"""What data-dependent weights start from: rows of the data, their weights, and their moments."""

import numpy as np
import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.checks.beside import check_weights

__all__ = ["checked", "moments", "parts", "some"]

_CHUNK = 2 ** 20  # entries of float64 in one go
_ENOUGH = 2 ** 20  # entries that a costly bijector is tried on


def checked(x, weights, context=None):
    """Rows of the data that take part, and their weights, both found to be right.

    Args:
      x: `[N, ...]`.
      weights: `[N]`, or None.
      context: `[N, ...]`, or None.

    Returns:
      `(x, weights, context)`, weights a NumPy array of float64 or None; without the rows of weight
      0.

    Raises:
      ValueError: x is empty or not finite, or `weights` do not fit it or have no positive sum.
    """
    replica = tf.distribute.get_replica_context()
    shared = replica is not None and replica.num_replicas_in_sync > 1
    if shared or not tf.executing_eagerly():
        raise ValueError("`initialize` must be called once for all replicas: outside of "
                         "`tf.function` and of `strategy.run`.")
    inputs.check_rows("x", x)
    if weights is not None:
        check_weights("weights", np.shape(weights), x.shape[0], "x")
        weights = np.asarray(weights, np.float64).reshape(-1)
        if not np.isfinite(weights).all() or weights.sum() <= 0:
            raise ValueError(f"`weights` must be {x.shape[0]} finite numbers with a positive sum, "
                             f"one for each row of `x`. Received: {len(weights)} with the sum "
                             f"{weights.sum():.6g}")
        if not weights.all():
            x, context = (t if t is None else tf.boolean_mask(t, weights != 0)
                          for t in (x, context))
            weights = weights[weights != 0]
    inputs.check_finite("x", x)
    if context is not None:
        inputs.check_finite("context", context)
    return x, weights, context


def some(x, weights, context=None):
    """The same of as many rows as a costly bijector is tried on, drawn from all of them."""
    enough = int(np.clip(_ENOUGH // max(1, np.prod(x.shape[1:])), 256, 2 ** 14))
    if x.shape[0] <= enough:
        return x, weights, context
    rows = np.sort(np.random.RandomState(0).permutation(x.shape[0])[:enough])
    return (tf.gather(x, rows), None if weights is None else weights[rows],
            None if context is None else tf.gather(context, rows))


def parts(x, *others):
    """Batches of the rows of x that are small enough for hidden layers much wider than x.

    Each is a tuple, of rows of x and of as many of each of the others.
    """
    rows = max(64, 2 ** 16 // int(np.prod(x.shape[1:])))
    return [tuple(t[i:i + rows] for t in (x, *others)) for i in range(0, x.shape[0], rows)]


def moments(x, weights, per_element):
    """Mean, variance and largest size of each channel (or entry), weighted, in float64.

    Chan et al.'s pairwise update: exact for a column near 1e9, whose mean of squares would not be.

    Args:
      x: `[N, ...]`, N > 0.
      weights: `[N]` of float64, or None.
      per_element: of each entry, not of each channel, the last axis.

    Returns:
      Three NumPy arrays of the shape of an entry, or of a channel.
    """
    shape = tuple(x.shape[1:]) if per_element else tuple(x.shape[-1:])
    total, mean, squares, largest = 0.0, np.zeros(shape), np.zeros(shape), np.zeros(shape)
    rows = max(1, _CHUNK // int(np.prod(x.shape[1:])))
    for i in range(0, x.shape[0], rows):
        chunk = np.asarray(x[i:i + rows], np.float64)
        own = np.ones(len(chunk)) if weights is None else weights[i:i + rows]
        own = np.repeat(own, chunk.size // len(chunk) // int(np.prod(shape)))
        chunk = chunk.reshape(-1, *shape)
        if (sum_ := own.sum()) == 0:  # negative weights cancel
            continue
        center = np.tensordot(own, chunk, 1) / sum_
        delta, share = center - mean, sum_ / (total + sum_)
        squares += np.tensordot(own, np.square(chunk - center), 1) + (
            np.square(delta) * total * share)
        mean, total = mean + delta * share, total + sum_
        largest = np.maximum(largest, np.abs(chunk).max(axis=0))
    return mean, squares / total, largest
