"""An activation of x beside that of -x: no direction is lost, twice as many channels."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.functions.branch import PureLayer
from tfresflow.functions.function import Function
from tfresflow.layers.activations import LipSwish

__all__ = ["CLipSwish", "Concatenated"]


@keras.saving.register_keras_serializable("tfresflow")
class Concatenated(PureLayer, keras.layers.Layer):
    """`[phi(x), phi(-x)] / K`, `[..., C] -> [..., 2 C]`, of Lipschitz constant exactly 1.

        K = max_x || (phi'(x), phi'(-x)) ||_p

    p is the order of the norm in which x is measured: 2, unless a `Branch` gives another one. If
    the `Branch` learns p, K is that of the lowest p allowed, where it is largest. K is 2^(1/p) for
    ELU, LipschitzCube, Sin and Tanh, 1 for ReLU and Softplus; for LipSwish see `CLipSwish`.

    Args:
      activation: an elementwise layer of `tfresflow.layers`.

    Raises:
      ValueError: if `activation` is no such layer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> both = layers.Concatenated(layers.ReLU())
      >>> print(both(tf.constant([[3.0, -4.0]])).numpy())
      [[3. 0. 0. 4.]]
      >>> both.constant, round(layers.Concatenated(layers.Sin()).constant, 2)
      (1.0, 1.41)

    References: Perugachi-Diaz et al., Invertible DenseNets with Concatenated LipSwish (2021).
    """

    lipschitz = 1.0
    expansion = 2

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        if not hasattr(activation, "steepest_pair"):
            raise ValueError("`activation` must be an elementwise layer of tfresflow.layers. "
                             f"Received: activation={activation}")
        self.activation = activation
        self._order = None

    def build(self, input_shape):
        self.activation.build(input_shape)

    def set_domain(self, order):
        """Takes the `Order` of the norm around it; returns it."""
        self._order = min(order.lowest, self._order or order.lowest)
        return order

    def accepts(self, order):
        """Whether the bound holds for inputs of this `Order`: K falls as p grows."""
        return order.lowest >= (self._order or 2.0)

    @property
    def constant(self):
        """K, a float."""
        larger, smaller = self.activation.steepest_pair
        p = self._order or 2.0
        return larger * (1 + (smaller / larger) ** p) ** (1 / p)

    @property
    def function(self):
        return _Concatenated(self.activation.function, self.constant)

    def effective_weights(self):
        """Those of the activation."""
        return self.activation.effective_weights()

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2 * input_shape[-1])

    def get_config(self):
        activation = keras.saving.serialize_keras_object(self.activation)
        return {**super().get_config(), "activation": activation}

    @classmethod
    def from_config(cls, config):
        activation = keras.saving.deserialize_keras_object(config["activation"])
        return cls(**{**config, "activation": activation})


@keras.saving.register_keras_serializable("tfresflow")
class CLipSwish(Concatenated):
    """`[LipSwish(x), LipSwish(-x)] / K`, K = 1.0040 in the 2-norm, for every beta.

    The slopes of LipSwish at x and -x add up to 1 / 1.1, and the largest is 0.99985. The output has
    twice as many channels as the input.

    Args:
      beta: initial value of the learned scalar beta, before softplus is applied.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> swish = layers.CLipSwish()
      >>> swish(tf.zeros([1, 3])).shape
      TensorShape([1, 6])
      >>> round(swish.constant, 3)
      1.004

    References: Perugachi-Diaz et al., Invertible DenseNets with Concatenated LipSwish (2021).
    """

    def __init__(self, beta=0.5, **kwargs):
        super().__init__(LipSwish(beta, dtype=kwargs.get("dtype")), **kwargs)
        self.beta = beta

    def get_config(self):
        return {**keras.layers.Layer.get_config(self), "beta": self.beta}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@dataclasses.dataclass(frozen=True)
class _Concatenated(Function):
    """Of an elementwise function."""

    inner: Function
    constant: float

    def __call__(self, weights, x):
        return tf.concat([self.inner(weights, x), self.inner(weights, -x)], -1) / self.constant

    def linearise(self, weights, x):
        right, right_vjp = self.inner.linearise(weights, x)
        left, left_vjp = self.inner.linearise(weights, -x)

        def vjp(u):
            first, second = tf.split(u, 2, axis=-1)
            return (right_vjp(first) - left_vjp(second)) / self.constant

        return tf.concat([right, left], -1) / self.constant, vjp

    def linearise_forward(self, weights, x):
        right, right_jvp = self.inner.linearise_forward(weights, x)
        left, left_jvp = self.inner.linearise_forward(weights, -x)
        return (tf.concat([right, left], -1) / self.constant,
                lambda t: tf.concat([right_jvp(t), -left_jvp(t)], -1) / self.constant)

    @property
    def has_tangents(self):
        return self.inner.has_tangents

    def output_shape(self, weights, shape):
        return (*shape[:-1], 2 * shape[-1])

    def largest(self, weights, shape):
        return 2 * math.prod(shape)
