"""Vectors of a batch: each example `x[i]` is one vector, whatever its shape."""

import tensorflow as tf

__all__ = ["dot", "each", "empty_ring", "last_nonzero", "norm", "where"]


def dot(x, y):
    """`<x_i, y_i>`, `[N, ...], [N, ...] -> [N]`."""
    return tf.reduce_sum(x * y, axis=list(range(1, x.shape.rank)))


def norm(x):
    """`||x_i||_2`, `[N, ...] -> [N]`."""
    return tf.sqrt(dot(x, x))


def each(scale, x):
    """`scale_i x_i`, `[N], [N, ...] -> [N, ...]`."""
    return tf.reshape(scale, [-1] + [1] * (x.shape.rank - 1)) * x


def where(condition, x, y):
    """`x_i [N, ...]` where `condition_i [N]` holds, else `y_i`."""
    return tf.where(tf.reshape(condition, [-1] + [1] * (x.shape.rank - 1)), x, y)


def empty_ring(x, size):
    """Zeros `[N, size, ...]` for the last `size` iterates."""
    ring = tf.zeros(tf.concat([tf.shape(x)[:1], [size], tf.shape(x)[1:]], 0), x.dtype)
    return tf.ensure_shape(ring, [x.shape[0], size, *x.shape[1:]])


def last_nonzero(x):
    """The largest k for which `x_k`, `[K, ...]`, is not all zeros; 0 if there is none."""
    places = tf.reshape(tf.range(tf.shape(x)[0]), [-1] + [1] * (x.shape.rank - 1))
    return tf.reduce_max(tf.where(x != 0, places, 0))
