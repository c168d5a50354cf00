"""Activations that sort: gradient norm preserving, without curvature.

Their Jacobians are permutations: Lipschitz constant 1 in every p-norm. The log-determinant's
gradient does not pass through them, so blocks learn more slowly; for comparisons (section 3 of
Chen et al. 2019). References: Anil et al., Sorting out Lipschitz function approximation (2019).
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.branch import PureLayer
from tfresflow.functions.function import Function

__all__ = ["FullSort", "MaxMin"]


class _Sorting(PureLayer, keras.layers.Layer):
    """`[..., C] -> [..., C]`; subclasses say `function`."""

    lipschitz = 1.0

    def effective_weights(self):
        """None."""
        return []

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tfresflow")
class MaxMin(_Sorting):
    """The larger and the smaller of channels 2i and 2i + 1, in this order; C even.

    Raises:
      ValueError: in `build`, if the number of channels C is odd.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.MaxMin()(tf.constant([[1.0, 2.0, 4.0, 3.0]])).numpy())
      [[2. 1. 4. 3.]]

    References: Anil et al., Sorting out Lipschitz function approximation (2019).
    """

    @property
    def function(self):
        return _MaxMin()

    def build(self, input_shape):
        if input_shape[-1] % 2:
            raise ValueError("`input_shape` must have an even number of channels, which MaxMin "
                             f"takes in pairs. Received: input_shape={tuple(input_shape)}")


@keras.saving.register_keras_serializable("tfresflow")
class FullSort(_Sorting):
    """All channels in ascending order.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.FullSort()(tf.constant([[3.0, 1.0, 4.0, 2.0]])).numpy())
      [[1. 2. 3. 4.]]

    References: Anil et al., Sorting out Lipschitz function approximation (2019).
    """

    @property
    def function(self):
        return _FullSort()


@dataclasses.dataclass(frozen=True)
class _MaxMin(Function):
    """With the order of each pair as 0 or 1."""

    def __call__(self, weights, x):
        return self.linearise(weights, x)[0]

    def linearise(self, weights, x):
        first, second = _pairs(x)
        keep = tf.cast(first >= second, x.dtype)

        def swap(u):
            one, two = _pairs(u)
            mixed = [keep * one + (1 - keep) * two, keep * two + (1 - keep) * one]
            return tf.reshape(tf.stack(mixed, -1), tf.shape(u))

        return swap(x), swap

    linearise_forward = linearise  # a permutation of two is its own transpose


@dataclasses.dataclass(frozen=True)
class _FullSort(Function):
    def __call__(self, weights, x):
        return tf.sort(x, axis=-1)

    def linearise(self, weights, x):
        places = tf.argsort(x, axis=-1)
        back = tf.argsort(places, axis=-1)
        y = tf.gather(x, places, batch_dims=x.shape.rank - 1)
        return y, lambda u: tf.gather(u, back, batch_dims=x.shape.rank - 1)

    def linearise_forward(self, weights, x):
        places = tf.argsort(x, axis=-1)
        return (tf.gather(x, places, batch_dims=x.shape.rank - 1),
                lambda t: tf.gather(t, places, batch_dims=x.shape.rank - 1))


def _pairs(x):
    """`[..., C]` to its even and its odd channels."""
    pairs = tf.reshape(x, tf.concat([tf.shape(x)[:-1], [x.shape[-1] // 2, 2]], 0))
    return pairs[..., 0], pairs[..., 1]
