"""Random vectors for the estimate of a trace: `E[v v^T] = I`, and so `E[v^T A v] = tr(A)`."""

import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds

__all__ = ["normal", "orthogonal", "rademacher"]

_SMALL = 64  # numbers in an example


@keras.saving.register_keras_serializable("tfresflow")
def normal(shape, seed, dtype):
    """Random vectors `v ~ N(0, I)` for the trace estimate `E[v^T A v] = tr(A)`.

    Args:
      shape: list `[N, num_probes, ...]`.
      seed: a `seeds.Part`; row i depends on it and on the place of example i alone.
      dtype: of the result.

    Returns:
      A tensor of this shape.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, seeds
      >>> v = logdet.normal([10_000, 1, 2], seeds.Part(seeds.as_seed(0)), tf.float32)[:, 0]
      >>> A = tf.constant([[1., 2.], [3., 4.]])                   # its trace is 5
      >>> round(float(tf.reduce_mean(tf.reduce_sum(v * (v @ A), axis=1))), 0)
      5.0
    """
    return seeds.normal(seed, shape, dtype)


@keras.saving.register_keras_serializable("tfresflow")
def rademacher(shape, seed, dtype):
    """As `normal`, of random signs: the least variance among vectors of independent entries.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, seeds
      >>> v = logdet.rademacher([3, 1, 2], seeds.Part(seeds.as_seed(0)), tf.float32)[:, 0]
      >>> A = tf.linalg.diag([1., 4.])      # of a diagonal matrix each estimate is exact
      >>> tf.reduce_sum(v * (v @ A), axis=1).numpy().tolist()
      [5.0, 5.0, 5.0]
    """
    return tf.cast(2 * (seeds.bits(seed, shape) & 1) - 1, dtype)


@keras.saving.register_keras_serializable("tfresflow")
def orthogonal(shape, seed, dtype):
    """As `rademacher`, and orthogonal among the probes of examples that follow each other.

    Of `m` probes, m the power of two from the numbers of an example on, the mean of `v^T A v` is
    the trace of A with no error, whatever A. So where A hardly differs between the examples, as
    the Jacobians of a block do, the errors of a batch cancel each other: those of a gradient above
    all. Each probe by itself is one of independent random signs.

    Examples of more than 64 numbers have `rademacher`, as batches hold few examples for each.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, seeds
      >>> v = logdet.orthogonal([4, 1, 3], seeds.Part(seeds.as_seed(0)), tf.float32)[:, 0]
      >>> A = tf.constant([[1., 2., 0.], [3., 4., 5.], [0., 1., 2.]])          # its trace is 7
      >>> round(float(tf.reduce_mean(tf.reduce_sum(v * (v @ A), axis=1))), 4)
      7.0

    References: the rows of a Hadamard matrix, as in Bekas, Kokiopoulou and Saad, An estimator for
    the diagonal of a matrix (2007).
    """
    size = math.prod(shape[2:])
    if size > _SMALL:
        return rademacher(shape, seed, dtype)
    (n, count), rows = shape[:2], _hadamard(size)
    m = len(rows)
    begin = tf.cast(seed.first, tf.int64) * count
    place = begin + tf.range(tf.cast(n * count, tf.int64))
    group, groups = begin // m, tf.cast(n * count, tf.int64) // m + 2
    signs = rademacher([groups, size], seeds.Part(seed.seed, group), dtype)
    v = tf.gather(signs, place // m - group) * tf.gather(tf.cast(rows, dtype), place % m)
    return tf.reshape(v, [n, count, *shape[2:]])


def _hadamard(size):
    """The first `size` columns of Sylvester's matrix of as many rows or more."""
    rows = np.ones([1, 1])
    while len(rows) < size:
        rows = np.kron([[1, 1], [1, -1]], rows)
    return rows[:, :size]
