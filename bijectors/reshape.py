"""Bijectors that move entries and change none: log-determinant 0."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow

__all__ = ["Flatten", "Squeeze"]


@keras.saving.register_keras_serializable("bijectors")
class Squeeze(Flow):
    """Space to depth: `[N, H, W, C] -> [N, H/2, W/2, 4 C]`.

    Args:
      event_shape: `[H, W, C]`, height and width multiples of `factor`.
      factor: side of the square of pixels that becomes one.
      name: of the bijector.

    References: Dinh et al., Density estimation using Real NVP (2017), section 3.6.
    """

    def __init__(self, event_shape, factor=2, name=None):
        parameters = dict(locals())
        if len(event_shape) != 3 or any(side % factor for side in event_shape[:2]):
            raise ValueError("`event_shape` must be [H, W, C] with H and W multiples of "
                             f"factor={factor}. Received: event_shape={tuple(event_shape)}")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.factor = factor

    def forward_and_log_det(self, x, seed=None):
        return tf.nn.space_to_depth(x, self.factor), _zeros(x)

    def inverse_and_log_det(self, z, seed=None):
        return tf.nn.depth_to_space(z, self.factor), _zeros(z)

    def latent_shape(self, event_shape):
        h, w, c = event_shape
        return h // self.factor, w // self.factor, c * self.factor ** 2

    def data_shape(self, latent_shape):
        h, w, c = latent_shape
        return h * self.factor, w * self.factor, c // self.factor ** 2


@keras.saving.register_keras_serializable("bijectors")
class Flatten(Flow):
    """`[N, ...] -> [N, D]`.

    Args:
      event_shape: shape of one x.
      name: of the bijector.
    """

    def __init__(self, event_shape, name=None):
        super().__init__(event_shape, parameters=dict(locals()), latent_rank=1, name=name)

    def forward_and_log_det(self, x, seed=None):
        return tf.reshape(x, [-1, math.prod(self.event_shape)]), _zeros(x)

    def inverse_and_log_det(self, z, seed=None):
        return tf.reshape(z, [-1, *self.event_shape]), _zeros(z)

    def latent_shape(self, event_shape):
        return (math.prod(event_shape),)

    def data_shape(self, latent_shape):
        return self.event_shape


def _zeros(x):
    return tf.zeros(tf.shape(x)[:1], x.dtype)
