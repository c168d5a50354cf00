"""Dense layer of bounded operator norm."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.checks.sizes import as_size
from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.layers.induced_norm import InducedNorm
from tfresflow.layers.linear import Linear

__all__ = ["InducedNormDense"]

_NARROW = 8


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormDense(InducedNorm, keras.layers.Dense):
    """`y = activation(W x + b)`, `||W||_{domain -> codomain} <= coeff`.

    Mirrors `keras.layers.Dense`, `[N, ..., inputs] -> [N, ..., units]`, with
    `W = kernel / max(1, ||kernel|| / coeff)`. In the 2-norm a call costs one matrix-vector product
    more than Keras's, and each change of the kernel a few steps of power iteration. Where that
    finds the norm (orders other than from 1, or to inf), it is at most `coeff` up to about the
    `rtol` of the iteration, 1e-3 unless `power_iteration` says otherwise, or some times that where
    the largest singular values lie close together; `upper_bound` is proven.

    Args:
      units: positive integer.
      coeff: bound of the operator norm, in (0, 1).
      domain: order of the norm of the input, in [1, inf]; None: in a `Branch` the codomain of the
        layer before, elsewhere the codomain of this layer.
      codomain: order of the norm of the output, in [1, inf]; a `LearnedOrder`; or None: the
        domain.
      power_iteration: a `PowerIteration`, when to stop after a change of the kernel.
      certified: also keep a proven upper bound of the norm below 1. It has an effect only where
        power iteration alone does not find the norm: not from 2 to 2, from 1, or to inf.
      **kwargs: those of `keras.layers.Dense`.

    Raises:
      ValueError: if `coeff` is not in (0, 1), or an order is not in [1, inf]; in `build`, if
        inputs are of several vectors and the codomain's order may be lower than the domain's.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> triple = keras.initializers.Identity(gain=3.0)  # of norm 3
      >>> dense = layers.InducedNormDense(2, coeff=0.9, kernel_initializer=triple)
      >>> print(dense(tf.constant([[1.0, -2.0]])).numpy().round(2))
      [[ 0.9 -1.8]]
      >>> round(float(dense.measure_norm()), 2)
      0.9

    References: Chen et al., Residual Flows (2019), section 2.3; Miyato et al., Spectral
    normalization (2018).
    """

    def __init__(self, units, coeff=0.98, domain=None, codomain=2, power_iteration=None,
                 certified=True, **kwargs):
        super().__init__(as_size("units", units), **kwargs)
        self._set_norm(coeff, domain, codomain, power_iteration, certified)

    def build(self, input_shape):
        super().build(input_shape)
        p, q = self.fixed_orders
        if len(input_shape) > 2 and (None in (p, q) or p > q):
            raise ValueError("`domain` must be at most `codomain` for inputs of several vectors, "
                             "as the norm of all of them is larger than that of one. Received: "
                             f"{self.domain_order} -> {self.codomain_order}, "
                             f"input_shape={tuple(input_shape)}")
        self._build_norm()

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
            return _stacked(x, kernel)
        y = tf.tensordot(x, kernel, 1) if x.shape.rank > 2 else _matmul(x, kernel)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def adjoint_map(self, kernel):
        if kernel.shape.rank == 3:
            return lambda u: _stacked(u, kernel, transpose_b=True)

        def adjoint(u):
            if u.shape.rank > 2:
                return tf.tensordot(u, kernel, [[u.shape.rank - 1], [1]])
            return _matmul(u, kernel, transpose_b=True)

        return adjoint

    def event_shapes(self, kernel):
        """`([inputs], [units])`."""
        return kernel.shape[-2:-1], kernel.shape[-1:]


def _stacked(x, kernels, **kwargs):
    """As many vectors for each of B kernels, in turn: `[B S, inputs] -> [B S, units]`."""
    count, inputs, units = kernels.shape
    size = inputs if not kwargs else units
    y = tf.matmul(tf.reshape(x, [count, -1, size]), kernels, **kwargs)
    return tf.reshape(y, [-1, y.shape[-1]])


def _matmul(x, kernel, transpose_b=False):
    """`tf.matmul(x, kernel)`, several times as fast where the kernel is narrow.

    On CPUs, a product whose result has two columns takes as long as one of sixteen; one whose
    result has two rows does not.
    """
    if min(kernel.shape) > _NARROW:
        return tf.matmul(x, kernel, transpose_b=transpose_b)
    return _narrow(x, _transposed(kernel) if transpose_b else kernel)


@custom_gradient
def _narrow(x, kernel):
    inputs, units = kernel.shape
    tall = units > _NARROW >= inputs

    def gradient(dy):
        if tall:
            return (tf.transpose(tf.matmul(kernel, dy, transpose_b=True)),
                    tf.matmul(x, dy, transpose_a=True))
        return (tf.matmul(dy, kernel, transpose_b=True),
                tf.transpose(tf.matmul(dy, x, transpose_a=True)))

    if tall:
        return tf.matmul(x, kernel), gradient
    return tf.transpose(tf.matmul(_transposed(kernel), x, transpose_b=True)), gradient


def _transposed(kernel):
    """`tf.transpose(kernel)`, which TensorFlow would turn into a flag of the product again."""
    if kernel.shape[0] <= _NARROW:
        return tf.stack(tf.unstack(kernel), axis=1)
    return tf.stack(tf.unstack(kernel, axis=1))
