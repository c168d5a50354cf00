"""The log-determinant itself, from the whole Jacobian: for small D and for tests."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.branch import as_composition
from tfresflow.functions.determinant import log_abs_det
from tfresflow.functions.traced import shared
from tfresflow.logdet.base import Estimator
from tfresflow.saving.configurable import Configurable

__all__ = ["SMALL", "Exact", "is_small", "jacobian"]

SMALL = 64  # numbers in a row: so many products, all at once, cost no more than a series to 1e-3


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Exact(Configurable, Estimator):
    """`log |det(I + J)|` from the whole Jacobian J = dg/dx of each example.

    Costs D vector-Jacobian products and O(D^3) operations for each example, D the size of one x.
    Differentiable by back-propagation. Takes the place of a `LogDet` in any residual block.

    Example:
      >>> import math
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x = tf.constant([[0., math.pi]])
      >>> g_x, log_det = logdet.Exact()(lambda x: tf.sin(x) / 2, x)
      >>> round(float(log_det[0]), 4)       # slopes of x + g(x): 3/2 and 1/2
      -0.2877
      >>> round(math.log(3 / 2 * 1 / 2), 4)
      -0.2877
    """

    def __call__(self, g, x, seed=None):
        """Returns `(g(x), log_det)`: `[N, ...]` and `[N]`, nats; `seed` is not used."""
        y, matrices = jacobian(g, x)
        identity = tf.eye(matrices.shape[-1], dtype=y.dtype)
        return y, log_abs_det(identity + matrices)

    def bounds(self, g, x, seed=None):
        """`(g(x), lower, upper)`, see `LogDet.bounds`: both are the value."""
        y, log_det = self(g, x)
        return y, log_det, log_det

    def odd(self):
        return _Odd()


@dataclasses.dataclass(frozen=True)
class _Odd(Exact):
    """`log |det(I - J)| - log |det(I + J)|`, from one Jacobian."""

    def __call__(self, g, x, seed=None):
        y, matrices = jacobian(g, x)
        identity = tf.eye(matrices.shape[-1], dtype=y.dtype)
        return y, log_abs_det(identity - matrices) - log_abs_det(identity + matrices)


def is_small(flow):
    """Whether x of a flow is a row of at most `SMALL` numbers, and it takes other estimators."""
    shape = getattr(flow, "event_shape", None)
    return (shape is not None and len(shape) == 1 and shape[0] <= SMALL
            and hasattr(flow, "with_log_det"))


def jacobian(g, x):
    """`(g(x), dg/dx)`, `[N, ...]` and `[N, D, D]`."""
    composition, weights = as_composition(g)
    return shared(_jacobian, composition)(tf.convert_to_tensor(x), weights)


def _jacobian(composition, x, weights):
    g, weights = composition.normalized(), composition.normalize(weights)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = g(weights, x)
    size = x.shape[1:].num_elements()
    return y, tf.reshape(tape.batch_jacobian(y, x), [-1, size, size])
