"""Learned orders of norms as the reference has them, and as a `layers.LearnedOrder` does."""

import numpy as np

__all__ = ["RANGE", "to_ours", "to_theirs"]

RANGE = 1 + 1e-6, 5.0  # the reference's is (1, 5); a `LearnedOrder` must stay above 1
_AT_ZERO = 0.5493061829986572  # so that the reference's weight 0 is the order 2
_SLOPE = 0.3


def to_ours(raw):
    """The weight of a `LearnedOrder` of `RANGE` from that of the reference.

    The order p is `3 + 2 tanh(y)` there, `y = -h(0.549 - raw)`, h a leaky ELU, and
    `1 + 4 sigmoid(raw)` here.
    """
    x = _AT_ZERO - np.asarray(raw, np.float64)
    return -2 * (_SLOPE * x + (1 - _SLOPE) * np.where(x > 0, x, np.expm1(np.minimum(x, 0))))


def to_theirs(raw):
    """The inverse of `to_ours`."""
    y = -0.5 * np.asarray(raw, np.float64)
    x = np.where(y > 0, y, y / _SLOPE)  # left of the root where it is negative
    for _ in range(60):  # Newton's method on a convex function
        slope = _SLOPE + (1 - _SLOPE) * np.exp(np.minimum(x, 0))
        value = _SLOPE * x + (1 - _SLOPE) * np.expm1(np.minimum(x, 0))
        x = np.where(y > 0, x, x - (value - y) / slope)
    return _AT_ZERO - x
