"""Any shape to a vector."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from tfresflow.checks.sizes import as_sizes

__all__ = ["Flatten"]


@keras.saving.register_keras_serializable("bijectors")
class Flatten(Flow):
    """Reshapes `[N, ...] -> [N, D]`.

    Args:
      event_shape: shape of one x.
      name: of the bijector.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import Flatten
      >>> b, x = Flatten([2, 2, 3]), tf.ones([5, 2, 2, 3])
      >>> b.forward(x).shape, b.inverse(b.forward(x)).shape
      (TensorShape([5, 12]), TensorShape([5, 2, 2, 3]))
    """

    def __init__(self, event_shape, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        super().__init__(event_shape, parameters=dict(locals()), latent_rank=1, name=name)

    def forward_and_log_det(self, x, seed=None):
        return tf.reshape(x, [-1, math.prod(self.event_shape)]), tf.zeros(batch_shape(x), x.dtype)

    def bind(self, seed=None, size=None, dtype=None):
        step = super().bind(seed, size, dtype)
        step.ends_scale = True
        return step

    def inverse_and_log_det(self, z, seed=None):
        return tf.reshape(z, [-1, *self.event_shape]), tf.zeros(batch_shape(z), z.dtype)

    def latent_shape(self, event_shape):
        return (math.prod(event_shape),)

    def data_shape(self, latent_shape):
        return self.event_shape
