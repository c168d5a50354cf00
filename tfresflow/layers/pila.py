"""Pila, the identity with a smooth dip below zero, and its concatenation with two signs."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.functions.function import Function
from tfresflow.layers.activations import ElementwiseLayer
from tfresflow.layers.both_signs import Concatenated

__all__ = ["CPila", "Pila"]

_K = 5.0
_LEAST = -80.0  # below, exp(k z) and all that it is a factor of are 0


@keras.saving.register_keras_serializable("tfresflow")
class Pila(ElementwiseLayer):
    """`z` where positive, else `(k^2/2 z^3 - k z^2 + z) exp(k z)`, k = 5, of `z = x - shift`.

    Twice continuously differentiable; its slope is 1 from 0 on, and between -0.35 and 1 below.

    Args:
      shift: where the bend is.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.Pila()(tf.constant([-10.0, -0.2, 0.0, 3.0])).numpy().round(2))
      [-0.   -0.18  0.    3.  ]

    References: Ahn et al., Invertible Monotone Operators for Normalizing Flows (2022), section 4.
    """

    def __init__(self, shift=0.0, **kwargs):
        super().__init__(**kwargs)
        self.shift = shift

    @property
    def function(self):
        return _Pila(self.shift)

    def get_config(self):
        return {**super().get_config(), "shift": self.shift}


@keras.saving.register_keras_serializable("tfresflow")
class CPila(Concatenated):
    """`[pila(x - 0.2), pila(-x - 0.2)] / 1.06`, of Lipschitz constant at most 1 (0.9989).

    The largest norm of the two slopes, 1.0588, is where one of them is 1 and the other -0.35. In
    the p-norm, p < 2, the constant is `2^(1/p - 1/2)` times as large, which bounds it, too. The
    output has twice as many channels as the input.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> pila = layers.CPila()
      >>> print(pila(tf.constant([[0.0, 1.26]])).numpy().round(2))
      [[-0.17  1.   -0.17 -0.03]]
      >>> pila.constant
      1.06

    References: Ahn et al., Invertible Monotone Operators for Normalizing Flows (2022), section 4.
    """

    def __init__(self, **kwargs):
        super().__init__(Pila(shift=0.2, dtype=kwargs.get("dtype")), **kwargs)

    @property
    def constant(self):
        """A bound of the p-norm of both slopes, by which their values are divided."""
        return 1.06 * max(1.0, 2 ** (1 / (self._order or 2.0) - 0.5))

    def get_config(self):
        return keras.layers.Layer.get_config(self)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class _Pila(Function):
    shift: float
    is_elementwise = True

    def __call__(self, weights, x):
        return _value_and_slope(x - self.shift)[0]

    def linearise(self, weights, x):
        y, slope = _value_and_slope(x - self.shift)
        return y, lambda u: u * slope

    linearise_forward = linearise  # a diagonal Jacobian is its own transpose


@custom_gradient
def _value_and_slope(z):
    """With t = k z where negative, else 0, by formulas, as a tape would keep a dozen tensors.

    The value is `max(z, 0) + t (t^2/2 - t + 1) e^t / k`, the slope `(t^3/2 + t^2/2 - t + 1) e^t`,
    and the slope's slope `k (t^3/2 + 2 t^2) e^t`.
    """
    t = tf.clip_by_value(_K * z, _LEAST, 0.0)
    e, square = tf.exp(t), 0.5 * t * t
    slope = (t * square + square - t + 1) * e

    def gradient(dvalue, dslope):
        return dvalue * slope + dslope * (_K * square * (t + 4) * e)

    return (tf.nn.relu(z) + t * (square - t + 1) * e / _K, slope), gradient
