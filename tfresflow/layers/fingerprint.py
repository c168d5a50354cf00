"""One integer that tells whether numbers are still those that they were."""

import numpy as np
import tensorflow as tf

__all__ = ["fingerprint"]


def fingerprint(kernel, orders=(), count=1):
    """A sum of all bits, exact in any order of summation: on every device, alone or stacked.

    Args:
      kernel: any shape; `[B, ...]` for a count B above 1.
      orders: tensors `[B]` of the same dtype.
      count: B.

    Returns:
      `[B]`, int64.
    """
    words = _words(kernel)
    words = tf.reshape(words, [count, -1, words.shape[-1]])
    rows = tf.reduce_sum(words * _factors(words.shape[2], 0), 2)
    total = tf.reduce_sum(rows * _factors(words.shape[1], 1), 1)
    for i, order in enumerate(orders):
        total += tf.reshape(_words(order[:, tf.newaxis]), [-1]) * _factors(1, 2 + i)
    return total


def _words(x):
    """The bits of the last axis, as int64."""
    each = 8 // x.dtype.size
    if each == 1:
        return tf.bitcast(x, tf.int64)
    added = -x.shape[-1] % each
    if added:
        x = tf.pad(x, [[0, 0]] * (x.shape.rank - 1) + [[0, added]])
    return tf.bitcast(tf.reshape(x, [*x.shape[:-1], -1, each]), tf.int64)


def _factors(count, seed):
    """Random odd numbers, by which words are told apart that have changed places."""
    limits = np.iinfo(np.int64)
    return np.random.RandomState(seed).randint(limits.min, limits.max, count, np.int64) | 1
