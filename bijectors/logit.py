"""The logit that takes pixels in [0, 1] to the real line."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow

__all__ = ["Logit"]


@keras.saving.register_keras_serializable("bijectors")
class Logit(Flow):
    """`z = logit(alpha + (1 - 2 alpha) x)`, `x` in [0, 1].

    Both `s = alpha + (1 - 2 alpha) x` and `1 - s` are formed from x, not from each other, so
    that white pixels keep their precision when alpha is 1e-6. The log-determinant is
    `sum log(1 - 2 alpha) - log s - log(1 - s)`.

    Args:
      event_shape: shape of one x.
      alpha: in (0, 0.5); 0.05 for natural images, 1e-6 for MNIST.
      name: of the bijector.
    """

    def __init__(self, event_shape, alpha=0.05, name=None):
        parameters = dict(locals())
        if not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must be in (0, 0.5). Received: alpha={alpha}")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.alpha = alpha

    def forward_and_log_det(self, x, seed=None):
        log_s, log_1_s = (tf.math.log(self.alpha + (1 - 2 * self.alpha) * y) for y in (x, 1 - x))
        return log_s - log_1_s, self._log_det(log_s, log_1_s)

    def inverse_and_log_det(self, z, seed=None):
        log_s, log_1_s = tf.math.log_sigmoid(z), tf.math.log_sigmoid(-z)
        x = (tf.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, -self._log_det(log_s, log_1_s)

    def _log_det(self, log_s, log_1_s):
        axes = list(range(1, log_s.shape.rank))
        return tf.reduce_sum(math.log(1 - 2 * self.alpha) - log_s - log_1_s, axis=axes)
