"""Dense concatenation within a Lipschitz bound: the step of an invertible DenseNet."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.functions.branch import PureLayer, as_composition, functionalize
from tfresflow.functions.conditional import context_layers
from tfresflow.functions.function import Function
from tfresflow.functions.traced import is_shareable
from tfresflow.layers.orders import Order, check_chain

__all__ = ["LipschitzConcatenation"]


@keras.saving.register_keras_serializable("tfresflow")
class LipschitzConcatenation(PureLayer, keras.layers.Layer):
    """`y = [eta_1 x, eta_2 h(x)]`, `eta_1^2 + eta_2^2 = 1`, Lip(h) <= 1; so Lip(y) <= 1.

    Concatenates x `[..., C]` and h(x) along the channels, with learned weights eta_1, eta_2 > 0.
    The residual branch of an i-DenseNet is a few of these layers and a last linear one. The bound
    holds in the 2-norm only.

    Args:
      branch: h, a Keras layer, for example a convolution of bounded norm and an activation in a
        `keras.Sequential`, its norms from 2 to 2.
      learned: whether eta_1 and eta_2 are trained; else both are the square root of one half.

    Raises:
      ValueError: if `branch` is no Keras layer, or, in `build`, if its norms are not from 2 to 2.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> grow = layers.LipschitzConcatenation(layers.InducedNormDense(2))
      >>> grow(tf.zeros([1, 3])).shape
      TensorShape([1, 5])
      >>> [round(float(eta), 2) for eta in grow.shares()]
      [0.71, 0.71]

    References: Perugachi-Diaz et al., Invertible DenseNets with Concatenated LipSwish (2021),
    equations 8 to 11.
    """

    lipschitz = 1.0

    def __init__(self, branch, learned=True, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(branch, keras.layers.Layer):
            raise ValueError(f"`branch` must be a Keras layer. Received: branch={branch!r}")
        self.branch, self.learned = branch, learned

    def build(self, input_shape):
        if not self.branch.built:
            self.branch.build(input_shape)
        check_chain([self.branch], Order(2.0))
        if context_layers(self.branch):
            raise ValueError("`branch` of a LipschitzConcatenation must hold no layer that takes a "
                             "context: put it after the concatenation. "
                             f"Received: {self.branch.name}")
        self.raw_shares = self.add_weight(name="raw_shares", shape=[2], initializer="ones",
                                          trainable=self.learned)

    def set_domain(self, order):
        """Takes the `Order` of the norm around it, which must be 2; returns it."""
        if not self.accepts(order):
            raise ValueError("`domain` of a LipschitzConcatenation must be 2. "
                             f"Received: {order}")
        return order

    def accepts(self, order):
        """Whether the bound holds for inputs of this `Order`."""
        return order.fixed == 2

    def shares(self):
        """`(eta_1, eta_2)`, scalar tensors, positive."""
        return tf.unstack(_shares(tf.convert_to_tensor(self.raw_shares)))

    def lipschitz_bound(self, of_branch):
        """`sqrt(eta_1^2 + eta_2^2 L^2)` for a proven constant L of h, a float."""
        with tf.init_scope():  # a flow may be made, and checked, while a function is traced
            one, two = map(float, self.shares())
        return math.hypot(one, two * of_branch)

    @property
    def function(self):
        return _Concatenation(as_composition(self.branch)[0].normalized())

    def effective_weights(self):
        """Both shares and the weights of h."""
        return [*self.shares(), *functionalize(self.branch)[1]]

    def compute_output_shape(self, input_shape):
        added = self.branch.compute_output_shape(input_shape)
        return (*input_shape[:-1], input_shape[-1] + added[-1])

    def get_config(self):
        branch = keras.saving.serialize_keras_object(self.branch)
        return {**super().get_config(), "branch": branch, "learned": self.learned}

    @classmethod
    def from_config(cls, config):
        branch = keras.saving.deserialize_keras_object(config["branch"])
        return cls(**{**config, "branch": branch})


@dataclasses.dataclass(frozen=True)
class _Concatenation(Function):
    """Weights: both shares, then those of h."""

    inner: Function

    @property
    def shareable(self):
        return is_shareable(self.inner)

    def __call__(self, weights, x):
        one, two, *own = weights
        return tf.concat([one * x, two * self.inner(own, x)], -1)

    def linearise(self, weights, x):
        one, two, *own = weights
        h, inner_vjp = self.inner.linearise(own, x)

        def vjp(u):
            passed, added = tf.split(u, [x.shape[-1], h.shape[-1]], axis=-1)
            return one * passed + inner_vjp(two * added)

        return tf.concat([one * x, two * h], -1), vjp

    def linearise_forward(self, weights, x):
        one, two, *own = weights
        h, inner_jvp = self.inner.linearise_forward(own, x)
        return (tf.concat([one * x, two * h], -1),
                lambda t: tf.concat([one * t, two * inner_jvp(t)], -1))

    @property
    def has_tangents(self):
        return self.inner.has_tangents

    def output_shape(self, weights, shape):
        *space, added = self.inner.output_shape(weights[2:], shape)
        return (*space, shape[-1] + added)

    def largest(self, weights, shape):
        return max(self.inner.largest(weights[2:], shape),
                   math.prod(self.output_shape(weights, shape)))


def _shares(raw):
    positive = tf.nn.softplus(raw)
    return positive / tf.norm(positive)
