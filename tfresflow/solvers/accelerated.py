"""Fixed points in fewer evaluations: what the last steps say about the Jacobian.

    Anderson    extrapolates from the last `window` steps
    Broyden     a quasi-Newton method: an inverse Jacobian of low rank, corrected at each step

Where a step has made the residual larger, both forget what they have learned and take a plain
step from the best point since they last did: so they converge where `Picard` does, in any norm.

References: Walker and Ni, Anderson acceleration for fixed-point iterations (2011); Broyden, A
class of methods for solving nonlinear simultaneous equations (1965); Bai et al., Deep
equilibrium models (2019).
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches.rows import dot, each, empty_ring, where
from tfresflow.checks.rules import check_number, check_whole
from tfresflow.solvers.fixed_point import FixedPointSolver

__all__ = ["Anderson", "Broyden"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Anderson(FixedPointSolver):
    """Anderson acceleration: `x <- sum_i a_i F(x_i)`, `a` minimising `||sum_i a_i r_i||`.

    The sums are over the last `window` iterates x_i, and `r_i = F(x_i) - x_i`. Each example has its
    own `a`. One evaluation of F for each step, and memory for `2 * window` iterates. Often takes a
    third of Picard's steps if Lip(F) is near 1.

    Args:
      rtol, atol, max_steps: as for `Picard`.
      window: number of iterates that are kept, at least 2.
      ridge: weight of the regularisation of `a`, relative to the residuals.

    Raises:
      ValueError: if a tolerance is negative, `max_steps` is below 1, `window` is below 2, or
        `ridge` is not positive.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> solution = solvers.Anderson()(lambda x: 0.99 * x + 0.02, tf.zeros([1, 1]))
      >>> round(float(solution.value[0, 0]), 2)
      2.0
      >>> int(solution.num_steps[0]) < 10  # Picard takes hundreds
      True

    References: Walker and Ni, Anderson acceleration for fixed-point iterations (2011).
    """

    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000
    window: int = 5
    ridge: float = 1e-6

    def __post_init__(self):
        self._validate()
        _check_window(self.window)
        check_number("ridge", self.ridge, "be positive", lambda ridge: ridge > 0)

    def _start(self, x):
        """Rings of images and residuals `[N, m, ...]`, how many are valid, the best so far."""
        ring = empty_ring(x, self.window)
        return ring, ring, tf.zeros(tf.shape(x)[:1], tf.int32), x, _infinite(x)

    def _advance(self, x, fx, residual, memory):
        images, residuals, count, best_fx, best = memory
        worse = ~(residual <= best) | ~tf.math.is_finite(residual)
        count = tf.where(worse, 0, tf.minimum(count + 1, self.window))
        best_fx = where(worse, best_fx, fx)
        fx, r = where(worse, tf.zeros_like(x), fx), where(worse, tf.zeros_like(x), fx - x)
        images = tf.concat([fx[:, None], images[:, :-1]], axis=1)
        residuals = tf.concat([r[:, None], residuals[:, :-1]], axis=1)
        mixed = _combine(_weights(residuals, count, self.ridge), images)
        ahead = where(count >= 2, mixed, best_fx)
        # The plain step counts, whatever its residual: in another norm than 2 that may rise.
        best = tf.where(worse, _infinite(x), residual)
        return ahead, (images, residuals, count, best_fx, best)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Broyden(FixedPointSolver):
    """Broyden's good method: `x <- x - H (F(x) - x)`, `H = -I + sum_i u_i v_i^T`.

    H approximates the inverse Jacobian of `F(x) - x` and satisfies the secant equation of the last
    step; with `H = -I` the first step is one of Picard. One evaluation of F for each step, and
    memory for `2 * window` iterates. After `window` corrections H begins again with `-I`.

    Args:
      rtol, atol, max_steps: as for `Picard`.
      window: most corrections `u_i v_i^T` that are kept, at least 2.

    Raises:
      ValueError: if a tolerance is negative, `max_steps` is below 1, or `window` is below 2.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> solution = solvers.Broyden()(lambda x: 0.99 * x + 0.02, tf.zeros([1, 1]))
      >>> round(float(solution.value[0, 0]), 2)
      2.0
      >>> int(solution.num_steps[0]) < 10  # Picard takes hundreds
      True

    References: Broyden, A class of methods for solving nonlinear simultaneous equations (1965).
    """

    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000
    window: int = 16

    def __post_init__(self):
        self._validate()
        _check_window(self.window)

    def _start(self, x):
        """u and v `[N, m, ...]`, how many; the last x and its residual; the best F(x)."""
        ring = empty_ring(x, self.window)
        none = tf.zeros(tf.shape(x)[:1], tf.int32) - 1  # corrections; -1: no step yet
        return ring, ring, none, x, tf.zeros_like(x), x, _infinite(x)

    def _advance(self, x, fx, residual, memory):
        us, vs, count, last_x, last_r, best_fx, best = memory
        worse = ~(residual <= 2 * best) | ~tf.math.is_finite(residual)
        best_fx = where(residual < best, fx, best_fx)
        best = tf.where(worse, _infinite(x), tf.minimum(best, residual))
        r = where(worse, tf.zeros_like(x), fx - x)
        x = where(worse, last_x, x)
        dx, dr = x - last_x, r - last_r
        v = _low_rank(vs, us, dx)  # H^T dx
        slope = dot(v, dr)
        usable = (count >= 0) & (tf.abs(slope) > 1e-8 * dot(dx, dx))
        u = each(1 / tf.where(usable, slope, tf.ones_like(slope)), dx - _low_rank(us, vs, dr))
        place = tf.one_hot(tf.where(usable, count, -1), self.window, dtype=x.dtype)
        full = (count + 1 >= self.window) | worse
        us, vs = (ring + _outer(place, new) for ring, new in ((us, u), (vs, v)))
        ahead = where(worse, best_fx, x - _low_rank(us, vs, r))
        # Begin again: no corrections, and after a bad step no secant either.
        keep = 1 - tf.cast(full, x.dtype)
        us, vs = each(keep, us), each(keep, vs)
        count = tf.where(worse, -1, tf.where(full, 0, tf.where(usable, count + 1,
                                                               tf.maximum(count, 0))))
        return ahead, (us, vs, count, x, r, best_fx, best)


def _low_rank(us, vs, x):
    """`-x + sum_i u_i <v_i, x>`."""
    flat = tf.reshape(vs, [-1, vs.shape[1], x.shape[1:].num_elements()])
    products = tf.linalg.matvec(flat, tf.reshape(x, [-1, flat.shape[2]]))
    return _combine(products, us) - x


def _outer(place, x):
    """`x_i` at its place of the ring, zeros elsewhere: `[N, m], [N, ...] -> [N, m, ...]`."""
    return tf.reshape(place, [-1, place.shape[1]] + [1] * (x.shape.rank - 1)) * x[:, None]


def _weights(residuals, count, ridge):
    """`a [N, m]`, zero beyond the `count [N]` valid entries, sum 1, least `||sum a_i r_i||`."""
    window = residuals.shape[1]
    size = residuals.shape[2:].num_elements()
    flat = tf.reshape(residuals, [-1, window, size])
    valid = tf.cast(tf.range(window) < count[:, None], flat.dtype)
    flat *= valid[:, :, None]
    largest = tf.reduce_max(tf.abs(flat), axis=[1, 2], keepdims=True)
    flat = tf.math.divide_no_nan(flat, largest)  # no square overflows or vanishes
    gram = tf.matmul(flat, flat, transpose_b=True)
    scale = tf.reduce_max(tf.linalg.diag_part(gram), axis=1)[:, None, None]
    gram = tf.math.divide_no_nan(gram, scale) + tf.linalg.diag(ridge + (1 - valid))
    single = gram.dtype if gram.dtype.size >= 4 else tf.float32  # no halves can be solved
    a = tf.linalg.solve(tf.cast(gram, single), tf.cast(valid[:, :, None], single))[:, :, 0]
    return tf.cast(tf.math.divide_no_nan(a, tf.reduce_sum(a, axis=1, keepdims=True)), flat.dtype)


def _combine(a, ring):
    """`sum_j a_ij ring_ij`, `[N, m], [N, m, ...] -> [N, ...]`."""
    rank = ring.shape.rank
    return tf.reduce_sum(tf.reshape(a, [-1, a.shape[1]] + [1] * (rank - 2)) * ring, axis=1)


def _infinite(x):
    return tf.fill(tf.shape(x)[:1], tf.constant(float("inf"), x.dtype))


def _check_window(window):
    check_whole("window", window, 2)
