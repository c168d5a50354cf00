"""The log-determinant itself, from the whole Jacobian: for small D and for tests."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable
from tfresflow.functional import unprepared
from tfresflow.sharing import shared

__all__ = ["Exact", "jacobian"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Exact(Configurable):
    """`log |det(I + J)|` by `slogdet` of the batch Jacobian.

    Costs D vector-Jacobian products and O(D^3) an example; differentiable by
    back-propagation. Takes the place of a `LogDet` in any residual block.
    """

    def __call__(self, g, x, seed=None):
        """Returns `(g(x), log_det)`: `[N, ...]` and `[N]`, nats; `seed` is not used."""
        y, matrices = jacobian(g, x)
        identity = tf.eye(matrices.shape[-1], dtype=y.dtype)
        return y, tf.linalg.slogdet(identity + matrices).log_abs_determinant


def jacobian(g, x):
    """`(g(x), dg/dx)`, `[N, ...]` and `[N, D, D]`."""
    composition, weights = unprepared(g)
    return shared(_jacobian, composition)(tf.convert_to_tensor(x), weights)


def _jacobian(composition, x, weights):
    g, weights = composition.prepared(), composition.prepare(weights)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = g(weights, x)
    size = x.shape[1:].num_elements()
    return y, tf.reshape(tape.batch_jacobian(y, x), [-1, size, size])
