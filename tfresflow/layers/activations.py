"""Activations with slope at most 1: Keras layers with `.lipschitz`.

A block learns from the log-determinant through the second derivative, so a good
activation has none vanishing where its slope is near 1 (section 2.4 of Chen et al. 2019).
"""

import keras
import tensorflow as tf

__all__ = ["ELU", "Identity", "LipSwish", "LipschitzCube", "ReLU", "Softplus"]


class _Activation(keras.layers.Layer):
    """An elementwise map: weights first, then what they do."""

    lipschitz = 1.0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def effective_weights(self):
        """Tensors that `apply` needs."""
        return []

    def call(self, inputs):
        return self.apply(self.effective_weights(), inputs)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tfresflow")
class LipSwish(_Activation):
    """`x sigmoid(softplus(beta) x) / 1.1`, slope at most 1 for every beta (equation 13).

    The largest slope of swish is 1.0998 whatever its beta; dividing by 1.1 gives 0.99984.

    Args:
      beta: initial raw value of the learned, scalar beta.
    """

    def __init__(self, beta=0.5, **kwargs):
        super().__init__(**kwargs)
        self.beta = beta

    def build(self, input_shape):
        self.raw_beta = self.add_weight(name="raw_beta", shape=[], initializer=(
            keras.initializers.Constant(self.beta)))

    def effective_weights(self):
        return [tf.nn.softplus(tf.convert_to_tensor(self.raw_beta))]

    def apply(self, weights, x):
        return x * tf.sigmoid(weights[0] * x) * (1 / 1.1)

    def get_config(self):
        return {**super().get_config(), "beta": self.beta}


@keras.saving.register_keras_serializable("tfresflow")
class ELU(_Activation):
    """`x` where positive, else `exp(x) - 1`; slope at most 1, no curvature where it is 1."""

    def apply(self, weights, x):
        return tf.nn.elu(x)


@keras.saving.register_keras_serializable("tfresflow")
class Softplus(_Activation):
    """`log(1 + exp(x))`, slope `sigmoid(x)` below 1."""

    def apply(self, weights, x):
        return tf.nn.softplus(x)


@keras.saving.register_keras_serializable("tfresflow")
class LipschitzCube(_Activation):
    """`x - 2/3` above 1, `x + 2/3` below -1, `x^3 / 3` between: slope `min(x^2, 1)`."""

    def apply(self, weights, x):
        inner = tf.clip_by_value(x, -1.0, 1.0)
        return inner ** 3 / 3 + (x - inner)


@keras.saving.register_keras_serializable("tfresflow")
class ReLU(_Activation):
    """`max(x, 0)`. Without curvature the log-determinant hardly trains it: for comparisons."""

    def apply(self, weights, x):
        return tf.nn.relu(x)


@keras.saving.register_keras_serializable("tfresflow")
class Identity(_Activation):
    """`x`: blocks of linear maps only, for comparisons."""

    def apply(self, weights, x):
        return tf.identity(x)
