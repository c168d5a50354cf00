"""The log-determinant itself, from the whole Jacobian: for small D and for tests."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.branch import as_composition, functionalize
from tfresflow.functions.determinant import log_abs_det
from tfresflow.functions.jacobian import whole
from tfresflow.functions.traced import shared
from tfresflow.logdet.base import Estimator
from tfresflow.logdet.conditional import with_context
from tfresflow.logdet.exact_block import ExactBlock
from tfresflow.saving.configurable import Configurable

__all__ = ["SMALL", "Exact", "is_small", "jacobian"]

SMALL = 64  # numbers in a row: so many products, all at once, cost no more than a series to 1e-3


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Exact(Configurable, Estimator):
    """`log |det(I + J)|` from the whole Jacobian J = dg/dx of each example.

    Costs D products with J, all at once, and O(D^3) operations for each example, D the size of one
    x. Takes the place of a `LogDet` in any residual block.

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

    forms_jacobian = True

    def __call__(self, g, x, seed=None):
        """Returns `(g(x), log_det)`: `[N, ...]` and `[N]`, nats; `seed` is not used."""
        y, matrix = jacobian(g, x)
        return y, self.of_jacobian(matrix)

    def of_jacobian(self, matrix):
        """The log-determinant `[N]` of J, `[N, D, D]`."""
        return log_abs_det(_identity(matrix) + matrix)

    def bounds(self, g, x, seed=None):
        """`(g(x), lower, upper)`, see `LogDet.bounds`: both are the value."""
        y, log_det = self(g, x)
        return y, log_det, log_det

    def bind(self, g, seed, spec, inverse, adjoint):
        """See `LogDet.bind`."""
        del seed
        function, weights = functionalize(g)
        return with_context(ExactBlock(self, function, weights, inverse, adjoint, spec), g)

    def odd(self):
        return _Odd()


@dataclasses.dataclass(frozen=True)
class _Odd(Exact):
    """`log |det(I - J)| - log |det(I + J)|`, from one Jacobian."""

    def of_jacobian(self, matrix):
        identity = _identity(matrix)
        return log_abs_det(identity - matrix) - log_abs_det(identity + matrix)


def _identity(matrix):
    return tf.eye(matrix.shape[-1], dtype=matrix.dtype)


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
    return whole(composition.normalized(), composition.normalize(weights), x)
