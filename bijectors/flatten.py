"""Any shape to a vector."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from tfresflow.checks.sizes import as_sizes

__all__ = ["Flatten", "flatten", "unflatten"]


@keras.saving.register_keras_serializable("bijectors")
class Flatten(Flow):
    """Reshapes `[N, ...] -> [N, D]`.

    Args:
      event_shape: shape of one x.
      channels_first: z has the entries of `[C, ...]` in their order, the last axis of x first.
      name: of the bijector.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import Flatten
      >>> b, x = Flatten([2, 2, 3]), tf.ones([5, 2, 2, 3])
      >>> b.forward(x).shape, b.inverse(b.forward(x)).shape
      (TensorShape([5, 12]), TensorShape([5, 2, 2, 3]))
      >>> x = [[[1., -1.], [2., -2.]]]
      >>> Flatten([2, 2], channels_first=True).forward(x).numpy().tolist()
      [[1.0, 2.0, -1.0, -2.0]]
    """

    def __init__(self, event_shape, channels_first=False, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        super().__init__(event_shape, parameters=dict(locals()), latent_rank=1, name=name)
        self.channels_first = channels_first

    def forward_and_log_det(self, x, seed=None):
        return flatten(x, self.channels_first), tf.zeros(batch_shape(x), x.dtype)

    def bind(self, seed=None, size=None, dtype=None):
        step = super().bind(seed, size, dtype)
        step.ends_scale = True
        return step

    def inverse_and_log_det(self, z, seed=None):
        x = unflatten(z, self.event_shape, self.channels_first)
        return x, tf.zeros(batch_shape(z), z.dtype)

    def latent_shape(self, event_shape):
        return (math.prod(event_shape),)

    def data_shape(self, latent_shape):
        return self.event_shape


def flatten(x, channels_first=False):
    """`[N, ...] -> [N, D]`; channels_first: the last axis of x varies slowest."""
    if channels_first:
        rank = x.shape.rank
        x = tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])


def unflatten(z, event_shape, channels_first=False):
    """The inverse of `flatten`, to `[N, *event_shape]`."""
    if not channels_first:
        return tf.reshape(z, [-1, *event_shape])
    x = tf.reshape(z, [-1, event_shape[-1], *event_shape[:-1]])
    return tf.transpose(x, [0, *range(2, x.shape.rank), 1])
