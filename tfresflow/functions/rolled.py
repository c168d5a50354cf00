"""Entries shifted around a torus."""

import tensorflow as tf

__all__ = ["rolled"]


def rolled(x, shift, axis):
    """`tf.roll(x, shift, axis)` of one axis, counted from the last one if it is negative.

    `tf.vectorized_map`, and so `jacobian` of a tape, rolls another axis than a negative one.
    """
    return tf.roll(x, shift, axis % x.shape.rank)
