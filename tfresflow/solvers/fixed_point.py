"""Fixed points `x = F(x)` of contractions, each example stopped by its own residual.

The residual is the true one, `||F(x) - x||` at the x that is returned, so the error is at
most `residual / (1 - Lip(F))`. A finished example is frozen: its answer does not depend on
how long its batchmates take, and one that is not finite ends, not converged, after a few
evaluations.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches.rows import norm, where
from tfresflow.checks.rules import check_whole
from tfresflow.saving.configurable import Configurable
from tfresflow.solvers.solution import Solution, Tolerance, check_tolerances
from tfresflow.solvers.unknowns import kept, taken

__all__ = ["FixedPointSolver", "Picard"]

_HOPELESS = 10  # evaluations in a row that are not finite


class FixedPointSolver(Configurable):
    """Base of solvers of `x = F(x)`: `solver(F, start) -> Solution`.

    A subclass has `rtol`, `atol` and `max_steps`, and defines one step of its iteration:

        _start(x) -> memory
        _advance(x, F(x), residual, memory) -> (next x, memory)

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> class Damped(solvers.Picard):
      ...     def _advance(self, x, fx, residual, memory):
      ...         return (x + fx) / 2, memory
      >>> solution = Damped()(lambda x: 3 - 2 * x, tf.zeros([1, 1]))  # no contraction
      >>> round(float(solution.value[0, 0]), 2)
      1.0
    """

    def _evaluate(self, function, x, memory):
        """`(F(x), memory)`, for solvers that look at more of F than its value."""
        return function(x), memory

    def _validate(self):
        check_tolerances(self)
        check_whole("max_steps", self.max_steps, 1)

    def __call__(self, function, x):
        """Solves `x = function(x)`.

        Args:
          function: `[N, ...] -> [N, ...]`, a contraction of each example.
          x: `[N, ...]`, where to start, of floats.

        Returns:
          A `Solution`: for each example the x of the smallest residual so far. An example is
          converged when `||F(x) - x|| <= atol + rtol * ||x||` (2-norm over the example). If `rtol`
          is None it is converged, too, when 25 evaluations have not made the residual smaller and
          it is at most 1e-5 of `||x||` (1e-10 in float64): rounding errors inside F may be that
          large.

        Raises:
          ValueError: if x is no tensor of floats, or `function` changes its shape or dtype.
        """
        x = taken("x", x)
        function = kept("function", function, "x", x)
        tolerance = Tolerance(self, x.dtype)

        def going_on(k, x, best, done, since, memory):
            del x, best, since, memory
            return (k < self.max_steps) & ~tf.reduce_all(done)

        def step(k, x, best, done, since, memory):
            fx, memory = self._evaluate(function, x, memory)
            now, size = norm(fx - x), norm(x)
            reached = tolerance.reached(now, size)
            better = ~done & ((now < best.residual) | reached)
            since = tf.where(better, 0, since + 1)
            residual = tf.where(better, now, best.residual)
            num_steps = tf.where(done, best.num_steps, k + 1)
            stalled = tolerance.stalled(since, residual, norm(best.value))
            best = Solution(where(better, x, best.value), num_steps, residual,
                            best.converged | ~done & (reached | stalled))
            done |= best.converged | (since >= _HOPELESS) & ~tf.math.is_finite(now)
            ahead, memory = self._advance(x, fx, now, memory)
            return k + 1, where(done, x, ahead), best, done, since, memory

        n = tf.shape(x)[0]
        none, no = tf.zeros([n], tf.int32), tf.zeros([n], tf.bool)
        best = Solution(x, none, tf.fill([n], tf.constant(float("inf"), x.dtype)), no)
        return tf.while_loop(going_on, step,
                             (tf.constant(0), x, best, no, none, self._start(x)),
                             maximum_iterations=self.max_steps)[2]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Picard(FixedPointSolver):
    """`x <- F(x)`. One evaluation of F for each step, which multiplies the residual by L or less.

    L = Lip(F) < 1; so it takes at most about `log(tol) / log(L)` steps.

    Args:
      rtol, atol: stop at `||F(x) - x|| <= atol + rtol * ||x||`; None: 4e-7 in float32, 1e-12
        in float64, or, if rounding errors prevent that, where the residual no longer falls.
      max_steps: most evaluations of F.

    Raises:
      ValueError: if a tolerance is negative, or `max_steps` is not a positive integer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> y = tf.constant([[3.0], [-6.0]])
      >>> solution = solvers.Picard()(lambda x: y - 0.5 * x, tf.zeros([2, 1]))  # x + 0.5 x = y
      >>> print(solution.value.numpy().round(2).tolist(), solution.converged.numpy())
      [[2.0], [-4.0]] [ True  True]

    References: Behrmann et al., Invertible residual networks (2019), algorithm 1.
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
