"""Fixed points `x = F(x)` of contractions, each example stopped by its own residual.

    Picard      x <- F(x): the residual shrinks by Lip(F) a step, surely
    Anderson    extrapolates from the last `window` steps; falls back to Picard where the
                extrapolation has made the residual larger, so it converges where Picard does

The residual is the true one, `||F(x) - x||` at the x that is returned, so the error is at
most `residual / (1 - Lip(F))`. A finished example is frozen: its answer does not depend on
how long its batchmates take.

References: Walker and Ni, Anderson acceleration for fixed-point iterations (2011).
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable
from tfresflow.solvers.solution import Solution

__all__ = ["Anderson", "Picard"]


class _FixedPoint(Configurable):
    """Tolerances and the frame of the iteration; subclasses say how to go on from a point."""

    def _validate(self):
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
        if self.max_steps < 1:
            raise ValueError("`max_steps` must be at least 1. "
                             f"Received: max_steps={self.max_steps}")

    def __call__(self, function, x):
        """Solves `x = function(x)`.

        Args:
          function: `[N, ...] -> [N, ...]`, a contraction of each example.
          x: `[N, ...]`, where to start.

        Returns:
          A `Solution`; an example is converged when
          `||F(x) - x|| <= atol + rtol * ||x||` (2-norm over the example).
        """
        default = {tf.float64: 1e-12}.get(x.dtype, 4e-7)
        rtol = default if self.rtol is None else self.rtol
        atol = default if self.atol is None else self.atol

        def going_on(k, x, num_steps, residual, converged, memory):
            del x, num_steps, residual, memory
            return (k < self.max_steps) & ~tf.reduce_all(converged)

        def step(k, x, num_steps, residual, converged, memory):
            fx = function(x)
            now = _norm(fx - x)
            num_steps = tf.where(converged, num_steps, k + 1)
            residual = tf.where(converged, residual, now)
            converged |= now <= atol + rtol * _norm(x)
            ahead, memory = self._advance(x, fx, now, memory)
            # The last evaluation belongs to the x it was made at: do not move past it.
            hold = converged | (k + 1 >= self.max_steps)
            return k + 1, _where(hold, x, ahead), num_steps, residual, converged, memory

        n = tf.shape(x)[0]
        infinite = tf.fill([n], tf.constant(float("inf"), x.dtype))
        state = (tf.constant(0), x, tf.zeros([n], tf.int32), infinite, tf.zeros([n], tf.bool),
                 self._start(x))
        _, x, num_steps, residual, converged, _ = tf.while_loop(
            going_on, step, state, maximum_iterations=self.max_steps)
        return Solution(x, num_steps, residual, converged)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Picard(_FixedPoint):
    """`x <- F(x)`. One evaluation a step, `log(tol) / log(L)` steps.

    Args:
      rtol, atol: stop at `||F(x) - x|| <= atol + rtol * ||x||`; None: 4e-7 in float32, 1e-12
        in float64.
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


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Anderson(_FixedPoint):
    """Anderson acceleration: `x <- sum_i a_i F(x_i)`, `a` minimising `||sum_i a_i r_i||`.

    Each example has its own window and its own `a`. One evaluation a step and memory for
    `2 * window` iterates; often a third of Picard's steps near L = 1.

    Args:
      rtol, atol, max_steps: as for `Picard`.
      window: iterates that are remembered, at least 2.
      ridge: weight of the regularisation of `a`, relative to the residuals.
    """

    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000
    window: int = 5
    ridge: float = 1e-6

    def __post_init__(self):
        self._validate()
        if self.window < 2:
            raise ValueError(f"`window` must be at least 2. Received: window={self.window}")
        if self.ridge <= 0:
            raise ValueError(f"`ridge` must be positive. Received: ridge={self.ridge}")

    def _start(self, x):
        """Rings of images and residuals `[N, m, ...]`, how many are valid, the best so far."""
        ring = tf.zeros(tf.concat([tf.shape(x)[:1], [self.window], tf.shape(x)[1:]], 0), x.dtype)
        ring = tf.ensure_shape(ring, [x.shape[0], self.window, *x.shape[1:]])
        infinite = tf.fill(tf.shape(x)[:1], tf.constant(float("inf"), x.dtype))
        return ring, ring, tf.zeros(tf.shape(x)[:1], tf.int32), x, infinite

    def _advance(self, x, fx, residual, memory):
        images, residuals, count, best_fx, best = memory
        worse = residual > best
        # After a bad extrapolation: forget the window, take a plain step from the best point.
        count = tf.where(worse, 0, tf.minimum(count + 1, self.window))
        best_fx = _where(worse, best_fx, fx)
        best = tf.minimum(best, residual)
        images = tf.concat([fx[:, None], images[:, :-1]], axis=1)
        residuals = tf.concat([(fx - x)[:, None], residuals[:, :-1]], axis=1)
        mixed = _combine(_weights(residuals, count, self.ridge), images)
        ahead = _where(count >= 2, mixed, best_fx)
        return ahead, (images, residuals, count, best_fx, best)


def _weights(residuals, count, ridge):
    """`a [N, m]`, zero beyond the `count [N]` valid entries, sum 1, least `||sum a_i r_i||`."""
    window = residuals.shape[1]
    size = residuals.shape[2:].num_elements()
    flat = tf.reshape(residuals, [-1, window, size])
    valid = tf.cast(tf.range(window) < count[:, None], flat.dtype)
    flat *= valid[:, :, None]
    gram = tf.matmul(flat, flat, transpose_b=True)
    scale = tf.reduce_max(tf.linalg.diag_part(gram), axis=1)[:, None, None]
    scale = tf.maximum(scale, tf.constant(1e-30, flat.dtype))
    gram = gram / scale + tf.linalg.diag(ridge + (1 - valid))
    a = tf.linalg.solve(gram, valid[:, :, None])[:, :, 0]
    total = tf.reduce_sum(a, axis=1, keepdims=True)
    return a / tf.where(total == 0, tf.ones_like(total), total)


def _combine(a, images):
    rank = images.shape.rank
    return tf.reduce_sum(tf.reshape(a, [-1, a.shape[1]] + [1] * (rank - 2)) * images, axis=1)


def _norm(x):
    return tf.sqrt(tf.reduce_sum(x ** 2, axis=list(range(1, x.shape.rank))))


def _where(condition, a, b):
    return tf.where(tf.reshape(condition, [-1] + [1] * (a.shape.rank - 1)), a, b)
