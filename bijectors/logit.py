"""The logit that takes pixels in [0, 1] to the real line."""

import math
import numbers

import keras
import tensorflow as tf

from bijectors.support import Supported
from tfresflow.checks.sizes import as_sizes

__all__ = ["Logit"]


@keras.saving.register_keras_serializable("bijectors")
class Logit(Supported):
    """`z = logit(alpha + (1 - 2 alpha) x)`, from pixels x in [0, 1] to the real line.

    Both `s = alpha + (1 - 2 alpha) x` and `1 - s` are formed from x, not from each other, so
    that white pixels keep their precision when alpha is 1e-6. The log-determinant is
    `sum log(1 - 2 alpha) - log s - log(1 - s)`.

    The support is all x with `0 < s < 1`, a little wider than [0, 1]. Outside of it the density
    is 0, and the log-determinant -inf; data to train on that lies there (bytes from 0 to 255) is
    refused by `initialize`, and so by `FlowModel.fit`.

    Args:
      event_shape: shape of one x.
      alpha: in (0, 0.5); 0.05 for natural images, 1e-6 for MNIST.
      name: of the bijector.

    Raises:
      ValueError: if `alpha` is not in (0, 0.5); in `initialize`, if x is outside of the support.

    Example:
      >>> from bijectors import Logit
      >>> b = Logit([1], alpha=0.05)
      >>> z, log_det = b.forward_and_log_det([[0.0], [0.5], [1.0], [255.0]])
      >>> [round(float(number), 3) for number in z[:3, 0]]
      [-2.944, 0.0, 2.944]
      >>> [round(float(number), 3) for number in log_det]         # no density at 255
      [2.942, 1.281, 2.942, -inf]

    References: Dinh et al., Density estimation using Real NVP (2017), section 4.1; in this form,
    Papamakarios et al., Masked Autoregressive Flow for Density Estimation (2017).
    """

    def __init__(self, event_shape, alpha=0.05, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        if not isinstance(alpha, numbers.Real) or not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must be in (0, 0.5). Received: alpha={alpha!r}")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.alpha = float(alpha)

    def _both(self, x):
        """s and 1 - s."""
        return [self.alpha + (1 - 2 * self.alpha) * y for y in (x, 1 - x)]

    def _outside(self, x):
        s, rest = self._both(x)
        return (s <= 0) | (rest <= 0)

    def _nearest(self, x):
        return tf.clip_by_value(x, 0, 1)

    def _transform(self, x):
        log_s, log_rest = map(tf.math.log, self._both(x))
        return log_s - log_rest, math.log(1 - 2 * self.alpha) - log_s - log_rest

    def _recover(self, z):
        x = (tf.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        log_slope = tf.math.log_sigmoid(z) + tf.math.log_sigmoid(-z)
        return x, log_slope - math.log(1 - 2 * self.alpha)

    def _complaint(self, x, outside):
        del outside
        return ("`x` must be in [0, 1] for the logit (8-bit images: divided by 256, or see "
                f"`logit_alpha`). Received: values from {float(x.min()):g} to {float(x.max()):g}")
