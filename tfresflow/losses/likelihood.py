"""Likelihood: the standard normal base, and nats turned into bits per dimension."""

import math

import keras
import tensorflow as tf

__all__ = ["StandardNormal", "bits_per_dim"]


def bits_per_dim(nll, num_dims, nbits=8):
    """Bits per dimension of quantised data, from the density of the dequantised data.

    An image with integer levels q in {0, ..., 2^nbits - 1} is modelled as `x = (q + u) /
    2^nbits` in [0, 1), `u ~ U[0, 1)`. The density on the scale of the levels is `p(x)
    2^{-nbits D}`, and its mean log bounds the log-probability of q from below, so

        bits/dim = nll / (D log 2) + nbits

    Args:
      nll: `-log p(x)`, nats, any shape.
      num_dims: D, the number of entries of one example.
      nbits: bits of the quantisation.

    Returns:
      Bits per dimension, the shape of `nll`.

    Example:
      >>> import math
      >>> from tfresflow import losses
      >>> losses.bits_per_dim(0.0, num_dims=784)  # all levels equally likely
      8.0
      >>> round(losses.bits_per_dim(-784 * math.log(32), num_dims=784), 2)  # one in 8 of them
      3.0

    References: Theis et al., A note on the evaluation of generative models (2016).
    """
    return nll / (num_dims * math.log(2)) + nbits


@keras.saving.register_keras_serializable("tfresflow")
class StandardNormal:
    """`z ~ N(0, I)` on `event_shape`: the default base, so that TFP is not needed for it.

    Args:
      event_shape: shape of one latent, e.g. `[784]`.
      dtype: of z; default Keras's float type.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import losses
      >>> base = losses.StandardNormal([2])
      >>> round(float(base.log_prob(tf.zeros([1, 2]))[0]), 2)  # -log(2 pi)
      -1.84
      >>> base.sample(5, seed=[0, 1]).shape
      TensorShape([5, 2])
    """

    def __init__(self, event_shape, dtype=None):
        self.event_shape = tuple(event_shape)
        self.dtype = tf.as_dtype(dtype or keras.config.floatx())

    def get_config(self):
        return {"event_shape": self.event_shape, "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def log_prob(self, z):
        """`[N, ...] -> [N]`, nats."""
        axes = list(range(1, z.shape.rank))
        return -0.5 * tf.reduce_sum(z ** 2 + math.log(2 * math.pi), axis=axes)

    def sample(self, n, seed):
        """`[n, ...]`; `seed` is a `[2]` integer tensor."""
        return tf.random.stateless_normal([n, *self.event_shape], seed, dtype=self.dtype)
