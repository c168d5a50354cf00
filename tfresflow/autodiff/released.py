"""Takes the log-determinant's gradient in the forward pass."""

import dataclasses

import keras

from tfresflow.functions.sweep import Sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Released"]


@keras.saving.register_keras_serializable("tfresflow", "autodiff.Released")
@dataclasses.dataclass(frozen=True)
class Released(Configurable, Sweep):
    """Takes the gradient of each log-determinant in the forward pass (equation 10).

    The activations of the series are then freed; those of g and the gradient are kept. Unlike
    `logdet.Released`, it is right for examples of different weights.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> flow, x = InvertibleResidual(layers.InducedNormDense(3), [3]), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum([1., 2.] * log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Released(), autodiff.Stored())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))
      True

    References: Chen et al., Residual Flows (2019), section 2.2, equation 10.
    """

    def forward(self, step, x, rows, dlog_det):
        return step.release(x, rows, dlog_det)
