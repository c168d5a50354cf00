"""Where XLA compiles what is being traced, and what it needs there to give the same numbers."""

import math

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

__all__ = ["is_compiling", "normal", "stream"]


def is_compiling():
    """Whether the function that is being traced, or one around it, has `jit_compile=True`."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def stream(seed):
    """What TensorFlow's kernels make of `tf.raw_ops.StatelessRandomGetKeyCounter`.

    XLA's reads the lower halves of the seed alone, and no sign. Both scramble the seed by one
    round of the generator, with a key of their own.

    Args:
      seed: `[2]` integer tensor.
    """
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[2], key=tf.constant([0x02461e293ec8f720], tf.uint64),
        counter=tf.bitcast(tf.cast(seed, tf.int64), tf.uint64), alg=1, dtype=tf.uint64)
    key, high = tf.unstack(words)
    return key[tf.newaxis], tf.stack([tf.zeros_like(high), high])


def normal(shape, key, counter, alg, dtype):
    """What TensorFlow's kernels make of `tf.raw_ops.StatelessRandomNormalV2`; XLA's does not.

    Whole numbers are the same in both. Two of them, read as u and v in [0, 1), give two normal
    ones, `sqrt(-2 log u) (sin 2 pi v, cos 2 pi v)` (Box and Muller).

    Args:
      shape: `[N, D]`, D a multiple of 4.
      key, counter, alg, dtype: as the operation has them.
    """
    n, size = shape
    exact = tf.float64 if dtype == tf.float64 else tf.float32
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[n, size * exact.size // 4], key=key, counter=counter, alg=alg, dtype=tf.int32)
    u, v = tf.unstack(tf.reshape(_uniform(words, exact), [n, size // 2, 2]), axis=2)
    radius = tf.sqrt(-2 * tf.math.log(tf.maximum(u, 1e-7)))
    angle = 2 * math.pi * v
    pairs = tf.stack([radius * tf.sin(angle), radius * tf.cos(angle)], axis=2)
    return tf.cast(tf.reshape(pairs, shape), dtype)


def _uniform(words, dtype):
    """Numbers in [0, 1) of a row of random words: their last bits are the mantissa."""
    if dtype == tf.float32:
        return tf.cast(words & (2 ** 23 - 1), dtype) * 2.0 ** -23
    high, low = (tf.cast(half, tf.int64) for half in (words[:, ::2], words[:, 1::2]))
    mantissa = (high & (2 ** 20 - 1)) * 2 ** 32 + (low & (2 ** 32 - 1))
    return tf.cast(mantissa, dtype) * 2.0 ** -52
