"""Newton's method for fixed points of few numbers."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.batches.rows import where
from tfresflow.solvers.direct import eliminated
from tfresflow.solvers.fixed_point import FixedPointSolver

__all__ = ["Newton"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Newton(FixedPointSolver):
    """`x <- x + (I - J)^-1 (F(x) - x)`, J = dF/dx from D products, D the size of one x.

    Near the solution each step squares the residual, however slowly F contracts. A step that does
    not make it smaller is followed by one of Picard's, from the best x so far. Where D is small,
    above all in the plane, there is nothing faster; a step costs an evaluation of F, D products
    with J and O(D^3) operations.

    Args:
      rtol, atol, max_steps: as for `Picard`.

    Raises:
      ValueError: if a tolerance is negative, or `max_steps` is not a positive integer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> solution = solvers.Newton()(tf.cos, tf.zeros([1, 2]))
      >>> bool(tf.reduce_all(solution.converged)), int(solution.num_steps[0]) < 10
      (True, True)
    """

    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000

    def __post_init__(self):
        self._validate()

    def _start(self, x):
        """The best F(x) and its residual; the columns of `I - J` at x."""
        size = x.shape[1:].num_elements()
        infinite = tf.fill(tf.shape(x)[:1], tf.constant(math.inf, x.dtype))
        return x, infinite, [tf.zeros_like(tf.reshape(x, [-1, size]))] * size

    def _evaluate(self, function, x, memory):
        size = x.shape[1:].num_elements()
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            fx = function(x)
            entries = tf.unstack(tf.reshape(fx, [-1, size]), axis=1)
        rows = [tf.reshape(tape.gradient(entry, x, unconnected_gradients="zero"), [-1, size])
                for entry in entries]
        matrix = tf.eye(size, dtype=x.dtype) - tf.stack(rows, axis=1)
        return fx, (*memory[:2], tf.unstack(matrix, axis=2))

    def _advance(self, x, fx, residual, memory):
        best_fx, best, columns = memory
        worse = ~(residual <= best) | ~tf.math.is_finite(residual)
        best_fx = where(worse, best_fx, fx)
        # The plain step counts, whatever its residual: in another norm than 2 that may rise.
        best = tf.where(worse, tf.constant(math.inf, x.dtype), residual)
        ahead = x + tf.reshape(eliminated(columns, tf.reshape(fx - x, tf.shape(columns[0]))),
                               tf.shape(x))
        finite = tf.reduce_all(tf.math.is_finite(ahead), axis=list(range(1, x.shape.rank)))
        return where(worse | ~finite, best_fx, ahead), (best_fx, best, columns)
