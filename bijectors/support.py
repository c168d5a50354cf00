"""Bijectors of a part of space: what they do with data that lies outside of it."""

import math

import tensorflow as tf

from bijectors.base import Flow

__all__ = ["Supported"]


class Supported(Flow):
    """An elementwise bijector from an open box onto all of space.

    Outside of the box the density of x is 0: `log_det` is -inf, with gradient 0, and z is that of
    a point inside, so that the blocks that follow do not make NaN of it. x that is NaN stays so.
    Data that is to be trained on must lie inside: `initialize` raises an error.

    Subclasses define `_outside`, `_nearest`, `_transform`, `_recover` and `_complaint`.
    """

    def forward_and_log_det(self, x, seed=None):
        outside = self._outside(x)
        # What is computed for points outside must be finite, as its gradient is multiplied by 0.
        z, log_slope = self._transform(tf.where(outside, self._nearest(x), x))
        axes = list(range(1, x.shape.rank))
        beyond = tf.where(tf.reduce_any(outside, axes), tf.constant(-math.inf, x.dtype), 0)
        return z, tf.reduce_sum(log_slope, axes) + beyond

    def inverse_and_log_det(self, z, seed=None):
        x, log_slope = self._recover(z)
        return x, tf.reduce_sum(log_slope, list(range(1, z.shape.rank)))

    def check_support(self, x):
        outside = self._outside(x)
        if tf.reduce_any(outside):
            raise ValueError(self._complaint(x.numpy(), outside.numpy()))

    def start(self, x, weights, context=None):
        self.check_support(x)
        return super().start(x, weights, context)

    def _outside(self, x):
        """Where x is a number that is not inside: `[N, ...]` booleans."""
        raise NotImplementedError(f"{type(self).__name__}._outside")

    def _nearest(self, x):
        """Some point inside, with a gradient of 0 wherever x is outside."""
        raise NotImplementedError(f"{type(self).__name__}._nearest")

    def _transform(self, x):
        """`(z, log |dz/dx|)`, elementwise."""
        raise NotImplementedError(f"{type(self).__name__}._transform")

    def _recover(self, z):
        """`(x, log |dx/dz|)`, elementwise."""
        raise NotImplementedError(f"{type(self).__name__}._recover")

    def _complaint(self, x, outside):
        """The error's message: which values of x are outside, and of what."""
        raise NotImplementedError(f"{type(self).__name__}._complaint")
