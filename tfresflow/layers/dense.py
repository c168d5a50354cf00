"""Dense layer of bounded operator norm."""

import keras
import tensorflow as tf

from tfresflow.layers.induced_norm import InducedNorm

__all__ = ["InducedNormDense"]


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormDense(InducedNorm, keras.layers.Dense):
    """`y = activation(W x + b)`, `||W||_{domain -> codomain} <= coeff`.

    Mirrors `keras.layers.Dense`. Costs one matrix-vector product more than it a call.

    Args:
      units: positive integer.
      coeff: bound of the operator norm, in (0, 1).
      domain, codomain: orders of the norms of input and output; 2.
      power_iteration: how `update_norm` iterates, a `PowerIteration`.
      **kwargs: those of `keras.layers.Dense`.

    Raises:
      ValueError: if `coeff` is not in (0, 1), or an order is not 2.
    """

    def __init__(self, units, coeff=0.98, domain=2, codomain=2, power_iteration=None, **kwargs):
        super().__init__(units, **kwargs)
        self._set_norm(coeff, domain, codomain, power_iteration)

    def build(self, input_shape):
        super().build(input_shape)
        self._build_norm([1, self.units], [1, input_shape[-1]])

    def operator(self, v, kernel):
        """`[1, inputs] -> [1, units]`."""
        return tf.matmul(v, kernel)

    def adjoint(self, u, kernel):
        """`[1, units] -> [1, inputs]`."""
        return tf.matmul(u, kernel, transpose_b=True)

    def apply(self, weights, x):
        """The layer's output from the weights of `effective_weights`."""
        y = tf.tensordot(x, weights[0], 1) if x.shape.rank > 2 else tf.matmul(x, weights[0])
        return self.activation(tf.nn.bias_add(y, weights[1]) if self.use_bias else y)
