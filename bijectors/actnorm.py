"""Activation normalisation: a learned scale and shift of each channel."""

import keras
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from tfresflow.sizes import as_sizes

__all__ = ["ActNorm"]


@keras.saving.register_keras_serializable("bijectors")
class ActNorm(Flow):
    """`z = (x + shift) * exp(log_scale)`, a number of each a channel (the last axis).

    The identity until `initialize(x)` sets both from a batch, so that each channel of z starts
    with mean 0 and variance 1. `FlowModel.fit` does so with its first batch.

    Args:
      event_shape: shape of one x.
      per_element: a scale and shift for every entry of x instead of every channel.
      min_variance: floor of the variance in `initialize`, so that an all but constant channel is
        not blown up.
      dtype: of the weights.
      name: of the bijector.

    References: Kingma and Dhariwal, Glow (2018).
    """

    def __init__(self, event_shape, per_element=False, min_variance=0.2, dtype=None, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        if min_variance <= 0:
            raise ValueError("`min_variance` must be positive. "
                             f"Received: min_variance={min_variance}")
        weights = _ScaleAndShift(dtype=dtype)
        weights.build(event_shape if per_element else event_shape[-1:])
        super().__init__(event_shape, layers=[weights], parameters=parameters, name=name)
        self.per_element = per_element
        self.min_variance = min_variance
        self._scale_and_shift = weights

    def forward_and_log_det(self, x, seed=None):
        log_scale, shift = self._scale_and_shift.tensors()
        return (x + shift) * tf.exp(log_scale), self._log_det(x, log_scale)

    def inverse_and_log_det(self, z, seed=None):
        log_scale, shift = self._scale_and_shift.tensors()
        return z * tf.exp(-log_scale) - shift, -self._log_det(z, log_scale)

    def initialize(self, x):
        axes = [0] if self.per_element else list(range(x.shape.rank - 1))
        mean, variance = _moments(x, axes)
        weights = self._scale_and_shift
        weights.shift.assign(-mean)
        weights.log_scale.assign(-0.5 * tf.math.log(tf.maximum(variance, self.min_variance)))
        return self.forward_and_log_det(x)[0]

    def _log_det(self, x, log_scale):
        copies = 1 if self.per_element else tf.TensorShape(self.event_shape[:-1]).num_elements()
        return tf.fill(batch_shape(x), copies * tf.reduce_sum(log_scale))


def _moments(x, axes):
    """Mean and variance over `axes`, and over the shares of all replicas in a replica's context."""
    context = tf.distribute.get_replica_context()
    several = context is not None and context.num_replicas_in_sync > 1

    def total(t):
        return context.all_reduce("SUM", t) if several else t

    count = total(tf.cast(tf.reduce_prod([tf.shape(x)[i] for i in axes]), x.dtype))
    mean = total(tf.reduce_sum(x, axes)) / count
    return mean, total(tf.reduce_sum(tf.square(x - mean), axes)) / count


@keras.saving.register_keras_serializable("bijectors")
class _ScaleAndShift(keras.layers.Layer):
    """Holds the weights, where a `keras.Model` can see them.

    The class's name is part of the layout of weight files; one that begins with an underscore gives
    names that TensorFlow takes for no scope.
    """

    def __init__(self, name=None, **kwargs):
        super().__init__(name=name or f"scale_and_shift_{keras.backend.get_uid('scale_and_shift')}",
                         **kwargs)

    def build(self, shape):
        self.log_scale = self.add_weight(name="log_scale", shape=shape, initializer="zeros")
        self.shift = self.add_weight(name="shift", shape=shape, initializer="zeros")
        self.built = True

    def tensors(self):
        return tf.convert_to_tensor(self.log_scale), tf.convert_to_tensor(self.shift)
