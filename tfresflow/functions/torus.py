"""Fields on a torus: what is shifted around it, angles, and those of plaquettes."""

import math

import tensorflow as tf

__all__ = ["curl", "plaquettes", "principal", "rolled"]


def rolled(x, shift, axis):
    """`tf.roll(x, shift, axis)` of one axis, counted from the last one if it is negative.

    `tf.vectorized_map`, and so `jacobian` of a tape, rolls another axis than a negative one.
    """
    return tf.roll(x, shift, axis % x.shape.rank)


def principal(angles):
    """The same angles in `[-pi, pi)`."""
    return angles - 2 * math.pi * tf.floor(angles / (2 * math.pi) + 0.5)


def plaquettes(links):
    """`D theta`: sums around plaquettes of what links have, `[..., H, W, 2] -> [..., H, W]`.

        (D theta)(y) = theta_0(y) + theta_1(y+0) - theta_0(y+1) - theta_1(y)

    Link 0 of a site leads along the first axis of the lattice, link 1 along the second.
    """
    first, second = links[..., 0], links[..., 1]
    return first + rolled(second, -1, -2) - rolled(first, -1, -1) - second


def curl(fields):
    """`D^T h`, the adjoint of `plaquettes`: `[..., H, W] -> [..., H, W, 2]`."""
    return tf.stack([fields - rolled(fields, 1, -1), rolled(fields, 1, -2) - fields], axis=-1)
