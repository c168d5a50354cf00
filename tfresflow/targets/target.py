"""What all targets have in common."""

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.events import take
from tfresflow.saving.configurable import Configurable

__all__ = ["Target"]


class Target(Configurable):
    """A density `p(x) = exp(log_prob(x)) / Z`, of which Z need not be known.

    A subclass is a frozen dataclass, which Keras saves by its fields. It defines `event_shape` and
    `log_density(x)` of x `[..., *event_shape]`, in TensorFlow's differentiable operations. Where
    more is known, it sets `log_z`, and defines `sample(n, seed=None, dtype=None)`. A target
    without exact samples has no attribute `sample`, so `hasattr(target, "sample")` tells.

    Example:
      >>> import dataclasses
      >>> import tensorflow as tf
      >>> from tfresflow import targets
      >>> @dataclasses.dataclass(frozen=True)
      ... class Ring(targets.Target):
      ...     radius: float
      ...     event_shape = (2,)
      ...     def log_density(self, x):
      ...         return -8 * (tf.norm(x, axis=-1) - self.radius) ** 2
      >>> ring = Ring(2.0)
      >>> ring.log_prob([[3.0, 0.0], [0.0, 1.0]]).numpy().tolist()
      [-8.0, -8.0]
      >>> ring.log_z is None, hasattr(ring, "sample")
      (True, False)
    """

    @property
    def event_shape(self):
        """Shape of one x, a tuple."""
        raise NotImplementedError(f"{type(self).__name__}.event_shape")

    @property
    def log_z(self):
        """`log Z`, nats, a float; None where it is not known, as here."""
        return None

    def log_prob(self, x):
        """`log p(x) + log Z`, nats.

        Args:
          x: `[..., *event_shape]`, any number of leading dimensions; what is no floating-point
            tensor is converted to Keras's float type.

        Returns:
          `[...]`, of the dtype of x.

        Raises:
          ValueError: if x has another shape or is not of numbers.
        """
        return self.log_density(self.take(x))

    def take(self, x):
        """x as a tensor `[..., *event_shape]` of floating-point numbers."""
        return take("x", x, self.event_shape, leading=None)

    def log_density(self, x):
        """`log_prob` of what is a tensor `[..., *event_shape]` already."""
        raise NotImplementedError(f"{type(self).__name__}.log_density")


def drawn(seed, count, dtype):
    """`(seeds, dtype)` of a call of `sample`: `count` seeds `[2]`, and a `tf.DType`."""
    return seeds.split(seeds.as_seed(seed), count), tf.as_dtype(dtype or keras.config.floatx())


def in_dtype(function, x, event_shape, dtype):
    """`function(x)` of one leading dimension, computed in a dtype, as `[...]` in that of x.

    Raises:
      ValueError: if the function's values are not one number for each x.
    """
    lead = tf.shape(x)[:x.shape.rank - len(event_shape)]
    rows = tf.cast(tf.reshape(x, [-1, *event_shape]), dtype or x.dtype)
    values = tf.convert_to_tensor(function(rows))
    if values.shape.rank != 1 or not values.shape.is_compatible_with(rows.shape[:1]):
        raise ValueError("`thing` must give one log-density for each x, [N] for "
                         f"{tuple(rows.shape)}. Received: {tuple(values.shape)}")
    return tf.cast(tf.reshape(values, lead), x.dtype)
