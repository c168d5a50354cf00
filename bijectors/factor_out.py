"""Factoring out: half of the channels are done, the other half goes on."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow, late_pass, start
from bijectors.foreign import as_flow
from bijectors.start import some
from tfresflow.sizes import as_sizes

__all__ = ["FactorOut"]


@keras.saving.register_keras_serializable("bijectors")
class FactorOut(Flow):
    """`z = [flatten(inner(x_1)), flatten(x_2)]`, `x = [x_1, x_2]` split along the channels.

    A multiscale flow nests them. The latent is a vector `[N, D]`.

    Args:
      inner: the flow, or bijector of TFP, of the first half of the channels.
      event_shape: `[..., C]`, C even.
      name: of the bijector.

    Raises:
      ValueError: if C is odd or `inner` is for another shape than the first half.

    References: Dinh et al., Density estimation using Real NVP (2017), section 3.6.
    """

    def __init__(self, inner, event_shape, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        *space, channels = event_shape
        if channels % 2:
            raise ValueError("`event_shape` must have an even number of channels. "
                             f"Received: event_shape={event_shape}")
        half = (*space, channels // 2)
        inner = parameters["inner"] = as_flow(inner, half, "inner")
        if inner.event_shape != half:
            raise ValueError(f"`inner` must be a bijector of event_shape {half}. "
                             f"Received: {inner.event_shape}")
        super().__init__(event_shape, layers=inner.layers, parameters=parameters, latent_rank=1,
                         name=name)
        self.inner = inner

    def forward_and_log_det(self, x, seed=None):
        first, second = tf.split(x, 2, axis=-1)
        z, log_det = self.inner.forward_and_log_det(first, seed)
        return tf.concat([_flatten(z), _flatten(second)], axis=1), log_det

    def late_pass(self, x, seed):
        inner = late_pass(self.inner, x, seed)

        def run(x, later, start, halved):
            first, second = tf.split(x, 2, axis=-1)
            z, log_det = inner(first, later, start, halved)
            return tf.concat([_flatten(z), _flatten(second)], axis=1), log_det

        return run

    def inverse_and_log_det(self, z, seed=None):
        first, second = self._split(z)
        x, log_det = self.inner.inverse_and_log_det(first, seed)
        return tf.concat([x, second], axis=-1), log_det

    def inverse_alone(self, z):
        first, second = self._split(z)
        return tf.concat([self.inner.inverse_alone(first), second], axis=-1)

    def with_log_det(self, log_det):
        return FactorOut(self.inner.with_log_det(log_det), self.event_shape, self.name)

    def start(self, x, weights):
        x, weights = some(x, weights)  # here, so that both halves are of the same rows
        first, second = tf.split(x, 2, axis=-1)
        z, weights = start(self.inner, first, weights)
        return tf.concat([_flatten(z), _flatten(second)], axis=1), weights

    def named_layers(self):
        return self.inner.named_layers()

    def branches(self):
        return self.inner.branches()

    def find_nonfinite(self, x, seed=None):
        return self.inner.find_nonfinite(tf.split(x, 2, axis=-1)[0], seed)

    def latent_shape(self, event_shape):
        return (math.prod(event_shape),)

    def data_shape(self, latent_shape):
        return self.event_shape

    def _split(self, z):
        """The latents of both halves, each in the shape that it had."""
        latent = self.inner.latent_shape(self.inner.event_shape)
        first, second = tf.split(z, 2, axis=1)
        return tf.reshape(first, [-1, *latent]), tf.reshape(second, [-1, *self.inner.event_shape])


def _flatten(x):
    return tf.reshape(x, [-1, math.prod(x.shape[1:])])
