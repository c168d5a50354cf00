"""Fixed points `x = F(x)` of contractions, each example stopped by its own residual.

The residual is the true one, `||F(x) - x||` at the x that is returned, so the error is at
most `residual / (1 - Lip(F))`. A finished example is frozen: its answer does not depend on
how long its batchmates take. Without a tolerance of the user's the float type sets it, and an
example whose residual has come near rounding errors and falls no more is done, too.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable
from tfresflow.solvers.batch import norm, where
from tfresflow.solvers.solution import Solution, check_limits, default_tolerance

__all__ = ["FixedPointSolver", "Picard"]

_FLOOR = {tf.float64: 1e-9}  # of ||x||, else 1e-4: residuals that rounding may explain
_PATIENCE = 25  # evaluations without a smaller residual


class FixedPointSolver(Configurable):
    """Tolerances and the frame of the iteration; subclasses say how to go on from a point.

    A subclass has `rtol`, `atol` and `max_steps`, and says

        _start(x) -> memory
        _advance(x, F(x), residual, memory) -> (x, memory)
    """

    def _validate(self):
        check_limits(self)

    def __call__(self, function, x):
        """Solves `x = function(x)`.

        Args:
          function: `[N, ...] -> [N, ...]`, a contraction of each example.
          x: `[N, ...]`, where to start.

        Returns:
          A `Solution`, of the smallest residual seen; an example is converged when
          `||F(x) - x|| <= atol + rtol * ||x||` (2-norm over the example).
        """
        rtol, atol = default_tolerance(self, x.dtype)
        floor = 0.0 if self.rtol is not None else _FLOOR.get(x.dtype, 1e-4)

        def going_on(k, x, best, since, memory):
            del x, since, memory
            return (k < self.max_steps) & ~tf.reduce_all(best.converged)

        def step(k, x, best, since, memory):
            fx = function(x)
            now, size = norm(fx - x), norm(x)
            small = now <= atol + rtol * size
            better = ~best.converged & ((now < best.residual) | small)
            since = tf.where(better, 0, since + 1)
            residual = tf.where(better, now, best.residual)
            stalled = (since >= _PATIENCE) & (residual <= floor * size)
            best = Solution(where(better, x, best.value),
                            tf.where(best.converged, best.num_steps, k + 1), residual,
                            best.converged | small | stalled)
            ahead, memory = self._advance(x, fx, now, memory)
            return k + 1, where(best.converged, x, ahead), best, since, memory

        n = tf.shape(x)[0]
        none = tf.zeros([n], tf.int32)
        best = Solution(x, none, tf.fill([n], tf.constant(float("inf"), x.dtype)),
                        tf.zeros([n], tf.bool))
        return tf.while_loop(going_on, step, (tf.constant(0), x, best, none, self._start(x)),
                             maximum_iterations=self.max_steps)[2]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Picard(FixedPointSolver):
    """`x <- F(x)`. One evaluation a step, `log(tol) / log(L)` steps: the residual falls surely.

    Args:
      rtol, atol: stop at `||F(x) - x|| <= atol + rtol * ||x||`; None: 4e-7 in float32, 1e-12
        in float64, or as near as rounding lets it come.
      max_steps: most evaluations of F.
    """

    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000

    def __post_init__(self):
        self._validate()

    def _start(self, x):
        return ()

    def _advance(self, x, fx, residual, memory):
        return fx, memory
