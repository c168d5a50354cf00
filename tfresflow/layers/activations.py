"""Activations with slope at most 1: Keras layers with `.lipschitz`.

A block learns from the log-determinant through the second derivative, so that of a good
activation does not vanish where its slope is near 1 (section 2.4 of Chen et al. 2019).
"""

import dataclasses
import math
import typing

import keras
import tensorflow as tf

from tfresflow.checks.rules import check_number
from tfresflow.functions.branch import PureLayer
from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.functions.function import Function, Scale

__all__ = ["ELU", "ElementwiseLayer", "Identity", "LipSwish", "LipschitzCube", "ReLU", "Sin",
           "Softplus", "Tanh"]

_SWISH_SLOPE = 1.0998393201288668  # the largest; at x tanh(x / 2) = 2


@dataclasses.dataclass(frozen=True)
class _Elementwise(Function):
    """From `value_and_slope(x, *weights)`, a function of a module."""

    value_and_slope: typing.Callable
    is_elementwise = True

    def __call__(self, weights, x):
        return self.value_and_slope(x, *weights)[0]

    def linearise(self, weights, x):
        y, slope = self.value_and_slope(x, *weights)
        return y, lambda u: u * slope

    linearise_forward = linearise  # a diagonal Jacobian is its own transpose


class ElementwiseLayer(PureLayer, keras.layers.Layer):
    """An elementwise map; subclasses define `function`.

    Attributes:
      steepest_pair: the slopes at x and -x where their p-norm is largest, for every p >= 1.
    """

    lipschitz = 1.0
    steepest_pair = (1.0, 1.0)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tfresflow")
class LipSwish(ElementwiseLayer):
    """`x sigmoid(softplus(beta) x) / 1.1`, slope at most 1 for every beta (equation 13).

    The largest slope of swish is 1.0998 whatever its beta; dividing by 1.1 gives 0.99985.

    Args:
      beta: initial value of the learned scalar beta, before softplus is applied.
      frequency: that value after softplus, in place of `beta`, see `Sin`.

    Raises:
      ValueError: if `frequency` is not positive.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> x = tf.linspace(-20.0, 20.0, 1001)
      >>> with tf.GradientTape() as tape:
      ...     tape.watch(x)
      ...     y = layers.LipSwish(beta=2.0)(x)
      >>> bool(0.999 < tf.reduce_max(abs(tape.gradient(y, x))) < 1)
      True

    References: Chen et al., Residual Flows (2019), equation 13.
    """

    steepest_pair = (_SWISH_SLOPE / 1.1, (_SWISH_SLOPE - 1) / 1.1)

    def __init__(self, beta=0.5, frequency=None, **kwargs):
        super().__init__(**kwargs)
        self.beta = beta if frequency is None else _before_softplus(frequency)

    def build(self, input_shape):
        self.raw_beta = self.add_weight(name="raw_beta", shape=[], initializer=(
            keras.initializers.Constant(self.beta)))

    @property
    def function(self):
        return _LipSwish(_lipswish)

    def effective_weights(self):
        return [tf.convert_to_tensor(self.raw_beta)]

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("tfresflow")
class ELU(ElementwiseLayer):
    """`x` where positive, else `exp(x) - 1`; slope at most 1, no curvature where it is 1.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.ELU()(tf.constant([-100.0, -1.0, 2.0])).numpy().round(2))
      [-1.   -0.63  2.  ]

    References: Clevert et al., Exponential linear units (2016).
    """

    @property
    def function(self):
        return _Elementwise(_elu)


@keras.saving.register_keras_serializable("tfresflow")
class Softplus(ElementwiseLayer):
    """`log(1 + exp(x))`, slope `sigmoid(x)` below 1.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.Softplus()(tf.constant([-100.0, 0.0, 100.0])).numpy().round(2))
      [  0.     0.69 100.  ]
    """

    steepest_pair = (1.0, 0.0)

    @property
    def function(self):
        return _Elementwise(_softplus)


@keras.saving.register_keras_serializable("tfresflow")
class LipschitzCube(ElementwiseLayer):
    """`x - 2/3` above 1, `x + 2/3` below -1, `x^3 / 3` between: slope `min(x^2, 1)`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.LipschitzCube()(tf.constant([-2.0, -1.0, 0.0, 1.0, 2.0])).numpy().round(2))
      [-1.33 -0.33  0.    0.33  1.33]

    References: the code published with Chen et al., Residual Flows (2019).
    """

    @property
    def function(self):
        return _Elementwise(_lipschitz_cube)


class _OfFrequency(ElementwiseLayer):
    """`f(w x) / w`: of slope at most 1 as f is, and the more curved the larger w."""

    def __init__(self, frequency=None, **kwargs):
        super().__init__(**kwargs)
        self.frequency, self._raw = frequency, None if frequency is None else (
            _before_softplus(frequency))

    def build(self, input_shape):
        if self.frequency is not None:
            self.raw_frequency = self.add_weight(
                name="raw_frequency", shape=[], initializer=keras.initializers.Constant(self._raw))

    @property
    def function(self):
        one = _Elementwise(self._of_one())
        return one if self.frequency is None else _Scaled(one)

    def _of_one(self):
        """`x -> (f(x), its slope)`, a function of a module."""
        raise NotImplementedError(f"{type(self).__name__}._of_one")

    def effective_weights(self):
        if self.frequency is None:
            return []
        return [tf.nn.softplus(tf.convert_to_tensor(self.raw_frequency))]

    def get_config(self):
        return {**super().get_config(), "frequency": self.frequency}


@keras.saving.register_keras_serializable("tfresflow")
class Sin(_OfFrequency):
    """`sin(x)`, slope `cos(x)`: curved where it is flat, and periodic; or `sin(w x) / w`.

    Args:
      frequency: initial value of w, a learned scalar: where many channels share a norm below 1,
        each is small, and its sine nearly a straight line. None: w is 1, and not learned.

    Raises:
      ValueError: if `frequency` is not positive.

    Example:
      >>> import math
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.Sin()(tf.constant([0.0, 0.5 * math.pi, 2.5 * math.pi])).numpy().round(2))
      [0. 1. 1.]
      >>> print(layers.Sin(frequency=2.0)(tf.constant([0.25 * math.pi])).numpy().round(2))
      [0.5]
    """

    def _of_one(self):
        return _sin


@keras.saving.register_keras_serializable("tfresflow")
class Tanh(_OfFrequency):
    """`tanh(x)`, or `tanh(w x) / w`.

    It saturates, and its curvature vanishes where its slope is 1: for comparisons.

    Args:
      frequency: initial value of w, see `Sin`.

    Raises:
      ValueError: if `frequency` is not positive.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.Tanh()(tf.constant([-100.0, 0.0, 1.0, 100.0])).numpy().round(2))
      [-1.    0.    0.76  1.  ]
    """

    def _of_one(self):
        return _tanh


@keras.saving.register_keras_serializable("tfresflow")
class ReLU(ElementwiseLayer):
    """`max(x, 0)`. Without curvature the log-determinant hardly trains it: for comparisons.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.ReLU()(tf.constant([-1.0, 0.0, 2.0])).numpy())
      [0. 0. 2.]
    """

    steepest_pair = (1.0, 0.0)

    @property
    def function(self):
        return _Elementwise(_relu)


@keras.saving.register_keras_serializable("tfresflow")
class Identity(ElementwiseLayer):
    """`x`: blocks of linear maps only, for comparisons.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> print(layers.Identity()(tf.constant([-1.0, 0.0, 2.0])).numpy())
      [-1.  0.  2.]
    """

    @property
    def function(self):
        return _Elementwise(_identity)


@dataclasses.dataclass(frozen=True)
class _Scaled(Function):
    """`f(w x) / w`, weights `[w]`: both factors can be left to the linear maps around it."""

    inner: _Elementwise
    is_elementwise = True

    def __call__(self, weights, x):
        return self.inner([], weights[0] * x) / weights[0]

    def linearise(self, weights, x):
        y, product = self.inner.linearise([], weights[0] * x)
        return y / weights[0], product

    linearise_forward = linearise

    def pieces(self, size):
        return (Scale(), 1), (self.inner, 0), (Scale(), 1)

    def piece_weights(self, weights):
        return [weights, [], [tf.math.reciprocal(weights[0])]]


@dataclasses.dataclass(frozen=True)
class _LipSwish(_Elementwise):
    """`swish(beta x) / (1.1 beta)`: both factors can be left to the linear maps around it."""

    def pieces(self, size):
        return (Scale(), 1), (_Elementwise(_swish_of_twice), 0), (Scale(), 1)

    def piece_weights(self, weights):
        beta = tf.nn.softplus(weights[0])
        return [[0.5 * beta], [], [tf.math.reciprocal(1.1 * beta)]]


def _lipswish(x, raw_beta):
    beta = tf.nn.softplus(raw_beta)
    value, slope = _swish_of_twice(beta / 2 * x)
    return value / (1.1 * beta), slope / 2.2


@custom_gradient
def _swish_of_twice(h):
    """`swish(2 h) = h + h t` and its slope `1 + t + h (1 - t^2)`, `t = tanh(h)`.

    The slope's slope is `2 (1 - t^2) (1 - h t)`. By formulas, as a tape would keep and run two
    dozen operations; by tanh, as TensorFlow's sigmoid takes twice its time.
    """
    t = tf.tanh(h)
    twice_sigmoid = 1 + t
    slope = twice_sigmoid + tf.raw_ops.TanhGrad(y=t, dy=h)

    def gradient(dvalue, dslope):
        curvature = tf.raw_ops.TanhGrad(y=t, dy=2 - 2 * (h * t))
        return dvalue * slope + dslope * curvature

    return (h * twice_sigmoid, slope), gradient


def _before_softplus(frequency):
    """The number whose softplus is the frequency."""
    check_number("frequency", frequency, "be a positive number, or None",
                 lambda w: 0 < w < math.inf)
    return frequency + math.log(-math.expm1(-frequency))


def _elu(x):
    y = tf.nn.elu(x)
    return y, tf.minimum(y, 0) + 1


def _softplus(x):
    return tf.nn.softplus(x), tf.sigmoid(x)


def _lipschitz_cube(x):
    inner = tf.clip_by_value(x, -1.0, 1.0)
    return inner ** 3 / 3 + (x - inner), inner ** 2


def _sin(x):
    return tf.sin(x), tf.cos(x)


def _tanh(x):
    y = tf.tanh(x)
    return y, 1 - y * y


def _relu(x):
    return tf.nn.relu(x), tf.cast(x > 0, x.dtype)


def _identity(x):
    return tf.identity(x), tf.ones_like(x)
