"""Neal's funnel."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.checks.rules import check_number
from tfresflow.checks.sizes import as_size
from tfresflow.targets.target import Target, drawn

__all__ = ["Funnel"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Funnel(Target):
    """A first coordinate that says how wide the others are, over many orders of magnitude.

        x_0 ~ N(0, scale^2),    x_i | x_0 ~ N(0, exp(x_0))    (the variance)

    It is normalised: `log_z` is 0.

    Args:
      dimensions: D, at least 2.
      scale: standard deviation of the first coordinate, positive.

    Raises:
      ValueError: if an argument is not what it should be.

    Example:
      >>> from tfresflow import targets
      >>> funnel = targets.Funnel(10)
      >>> x = funnel.sample(5, seed=0)
      >>> x.shape, funnel.log_prob(x).shape, funnel.log_z
      (TensorShape([5, 10]), TensorShape([5]), 0.0)

    References: Neal, Slice sampling (2003), section 8.
    """

    dimensions: int = 10
    scale: float = 3.0

    log_z = 0.0

    def __post_init__(self):
        object.__setattr__(self, "dimensions", as_size("dimensions", self.dimensions, 2))
        check_number("scale", self.scale, "be positive", lambda value: 0 < value < math.inf)

    @property
    def event_shape(self):
        """`(D,)`."""
        return (self.dimensions,)

    def log_density(self, x):
        """`log p(x)`, see `log_prob`."""
        first, others = x[..., 0], x[..., 1:]
        size = self.dimensions - 1
        squares = tf.reduce_sum(others ** 2, axis=-1) * tf.exp(-first)
        constant = self.dimensions * math.log(2 * math.pi) / 2 + math.log(self.scale)
        return -(squares + size * first + (first / self.scale) ** 2) / 2 - constant

    def sample(self, n, seed=None, dtype=None):
        """`[n, D]` exact samples; `seed` as for `seeds.as_seed`."""
        [own], dtype = drawn(seed, 1, dtype)
        noise = tf.random.stateless_normal([n, self.dimensions], own, dtype=dtype)
        first = self.scale * noise[:, :1]
        return tf.concat([first, tf.exp(first / 2) * noise[:, 1:]], axis=1)
