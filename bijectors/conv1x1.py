"""Glow's invertible 1x1 convolution: a learned linear map of the channels."""

import math

import keras
import numpy as np
import tensorflow as tf

from bijectors.base import Flow
from tfresflow.checks.precision import check_float
from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_size, as_sizes
from tfresflow.functions.steps import Step
from tfresflow.functions.sweep import after

__all__ = ["InvertibleConv1x1"]


@keras.saving.register_keras_serializable("bijectors")
class InvertibleConv1x1(Flow):
    """`z = x W` on the last axis, at each place: a learned, invertible mix of the channels.

    `W = P L U`, P a permutation that stays as it is, L and U triangular, the diagonal of U `+-exp`
    of weights: so W is invertible whatever the weights are, and `log |det dz/dx|` is the number of
    places times the sum of `log |diag U|`.

    It begins as a random rotation.

    Args:
      event_shape: `[..., C]`: images, or `[C]` for vectors.
      seed: integer for the rotation; None: another one each time.
      dtype: of the weights.
      name: of the bijector.

    Raises:
      ValueError: if `event_shape` is empty.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleConv1x1
      >>> b, x = InvertibleConv1x1([4, 4, 3], seed=0), tf.random.normal([2, 4, 4, 3], seed=0)
      >>> z, log_det = b.forward_and_log_det(x)
      >>> bool(tf.reduce_all(abs(b.inverse(z) - x) < 1e-4))
      True
      >>> bool(abs(tf.norm(z) - tf.norm(x)) < 1e-3), abs(round(float(log_det[0]), 3))  # rotation
      (True, 0.0)

    References: Kingma and Dhariwal, Glow (2018), section 3.2.
    """

    def __init__(self, event_shape, seed=None, dtype=None, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        check(event_shape, "event_shape", "have at least one axis", event_shape)
        if seed is not None:
            seed = as_size("seed", seed, 0)
        self._triangular = _Triangular(seed, dtype=dtype)
        check_float(self._triangular)
        self._triangular.build(event_shape[-1:])
        super().__init__(event_shape, layers=[self._triangular], parameters=parameters, name=name)

    def forward_and_log_det(self, x, seed=None):
        kernel, log_det = self._triangular.tensors()
        return tf.tensordot(x, kernel, 1), self._of_each(x, log_det)

    def inverse_and_log_det(self, z, seed=None):
        _, log_det = self._triangular.tensors()
        return tf.tensordot(z, self._triangular.inverse(), 1), -self._of_each(z, log_det)

    def bind(self, seed=None, size=None, dtype=None):
        kernel, log_det = self._triangular.tensors()
        return _Linear(kernel, self._triangular.inverse(), log_det, self._of_each)

    def _of_each(self, x, log_det):
        return tf.fill(tf.shape(x)[:1], math.prod(self.event_shape[:-1]) * log_det)


class _Linear(Step):
    """`x -> x W`."""

    def __init__(self, kernel, inverse, log_det, of_each):
        self._inverse, self._of_each = inverse, of_each
        self.weights = [kernel, log_det]

    def value(self, x, rows):
        return tf.tensordot(x, self.weights[0], 1)

    def linearise(self, x, rows):
        def pull(dz, dlog_det):
            dx = tf.tensordot(dz, self.weights[0], [[-1], [1]])
            return dx, self._log_det(x), self._dweights(x, dz, dlog_det)

        return self.value(x, rows), pull

    def vijp(self, x, rows, dx, dlog_det):
        x = after(dx, x)
        dz = tf.tensordot(dx, self._inverse, [[-1], [1]])
        return self.value(x, rows), dz, self._log_det(x), self._dweights(x, dz, dlog_det)

    def inverse(self, z):
        return tf.tensordot(z, self._inverse, 1)

    def _log_det(self, x):
        return self._of_each(x, self.weights[1])

    def _dweights(self, x, dz, dlog_det):
        axes = list(range(x.shape.rank - 1))
        return [tf.tensordot(x, dz, [axes, axes]),
                tf.reduce_sum(dlog_det * self._of_each(x, tf.ones([], x.dtype)))]


@keras.saving.register_keras_serializable("bijectors")
class _Triangular(keras.layers.Layer):
    """Holds P, L and U.

    See `_ScaleAndShift` of actnorm.py for the name.
    """

    def __init__(self, seed=None, name=None, **kwargs):
        super().__init__(name=name or f"triangular_{keras.backend.get_uid('triangular')}",
                         **kwargs)
        self._seed = seed

    def build(self, shape):
        [size] = shape
        rotation = keras.initializers.Orthogonal(seed=self._seed)((size, size)).numpy()
        permutation, lower, upper = _plu(rotation)
        diagonal = np.diag(upper)

        def weight(name, value, trainable=True):
            return self.add_weight(name=name, shape=value.shape, trainable=trainable,
                                   initializer=lambda shape, dtype: tf.cast(value, dtype))

        self.permutation = weight("permutation", permutation, trainable=False)
        self.signs = weight("signs", np.sign(diagonal), trainable=False)
        self.lower, self.upper = weight("lower", lower), weight("upper", upper)
        self.log_diagonal = weight("log_diagonal", np.log(np.abs(diagonal)))
        self.built = True

    def _factors(self):
        """`(P, L, U)`."""
        p, lower, upper, signs, log_diagonal = map(tf.convert_to_tensor, (
            self.permutation, self.lower, self.upper, self.signs, self.log_diagonal))
        lower = tf.linalg.set_diag(tf.linalg.band_part(lower, -1, 0), tf.ones_like(signs))
        diagonal = signs * tf.exp(log_diagonal)
        return p, lower, tf.linalg.set_diag(tf.linalg.band_part(upper, 0, -1), diagonal)

    def tensors(self):
        """`(W, log |det W|)`."""
        p, lower, upper = self._factors()
        return p @ lower @ upper, tf.reduce_sum(tf.convert_to_tensor(self.log_diagonal))

    def inverse(self):
        """`W^-1`, by two triangular solves."""
        p, lower, upper = self._factors()
        half = tf.linalg.triangular_solve(lower, tf.transpose(p))
        return tf.linalg.triangular_solve(upper, half, lower=False)


def _plu(matrix):
    """`(P, L, U)` of a matrix."""
    lu, order = tf.linalg.lu(tf.cast(matrix, tf.float64))
    lu = lu.numpy()
    permutation = np.eye(len(lu))[:, order.numpy()]
    return permutation, np.tril(lu, -1) + np.eye(len(lu)), np.triu(lu)
