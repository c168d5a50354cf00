"""Dense layer of bounded operator norm."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.layers.induced_norm import InducedNorm, Linear

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

    @property
    def function(self):
        return _Dense(self.activation)


@dataclasses.dataclass(frozen=True)
class _Dense(Linear):
    """`[N, ..., inputs] -> [N, ..., units]`."""

    stackable = True

    def product(self, kernel, x, bias=None):
        """`W x`, or `W x + b`."""
        if kernel.shape.rank == 3:
            return tf.matmul(x[:, tf.newaxis], kernel)[:, 0]
        y = tf.tensordot(x, kernel, 1) if x.shape.rank > 2 else tf.matmul(x, kernel)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def adjoint(self, kernel, u):
        """`W^T u`."""
        if kernel.shape.rank == 3:
            return tf.matmul(u[:, tf.newaxis], kernel, transpose_b=True)[:, 0]
        if u.shape.rank > 2:
            return tf.tensordot(u, kernel, [[u.shape.rank - 1], [1]])
        return tf.matmul(u, kernel, transpose_b=True)
