"""Krylov methods for `(I - M) z = b`, each example with coefficients of its own.

They stop by the residual of their recurrence; the one that is reported is the true one, of one
more product, so that a recurrence that has drifted away does not pass for an answer.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.solvers.batch import dot, each, norm, where
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import Solution, check_limits, default_tolerance

__all__ = ["BiCGSTAB", "CG", "Normal"]

_DRIFT = 10.0  # the true residual may be so many times the tolerance


class _Krylov(LinearSolver):
    """The frame: subclasses say `_start(b)` and `_step(apply, z, state)`, state[0] the residual."""

    @property
    def approximate(self):
        return self.num_steps is not None

    def _check(self):
        check_limits(self)
        if self.num_steps is not None and self.num_steps < 0:
            raise ValueError("`num_steps` must not be negative. "
                             f"Received: num_steps={self.num_steps}")

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`."""
        rtol, atol = default_tolerance(self, b.dtype)
        cap = self.max_steps if self.num_steps is None else self.num_steps

        def apply(x):
            return x - matvec(x)

        def small(r, z):
            # For the first z, 0, the tolerance is that of b.
            return norm(r) <= atol + rtol * tf.maximum(norm(z), norm(b))

        def going_on(k, z, done, num_steps, *state):
            del z, num_steps, state
            return (k < cap) & ~tf.reduce_all(done)

        def step(k, z, done, num_steps, *state):
            num_steps = tf.where(done, num_steps, k + 1)
            ahead, new = self._step(apply, z, state)
            z = where(done, z, ahead)
            state = [where(done, old, now) for old, now in zip(state, new)]
            # 0: nothing is left to search for, with or without a tolerance
            done |= (norm(state[0]) == 0) if self.approximate else small(state[0], z)
            return k + 1, z, done, num_steps, *state

        z = tf.zeros_like(b)
        n = tf.shape(b)[0]
        _, z, _, num_steps, *_ = tf.while_loop(
            going_on, step, (tf.constant(0), z, norm(b) == 0, tf.zeros([n], tf.int32),
                             *self._start(b)), maximum_iterations=cap)
        residual = norm(b - apply(z))
        limit = _DRIFT * (atol + rtol * tf.maximum(norm(z), norm(b)))
        return Solution(z, num_steps, residual, residual <= limit)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class CG(_Krylov):
    """Conjugate gradients, for symmetric positive definite `I - M`. One product a step.

    Args:
      num_steps: this many steps; None for tolerance.
      rtol, atol: as for `Neumann`.
      max_steps: most steps by tolerance.
    """

    num_steps: int | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000

    def __post_init__(self):
        self._check()

    def _start(self, b):
        return b, b

    def _step(self, apply, z, state):
        r, p = state
        ap = apply(p)
        squared = dot(r, r)
        alpha = _ratio(squared, dot(p, ap))
        new_r = r - each(alpha, ap)
        new_p = new_r + each(_ratio(dot(new_r, new_r), squared), p)
        return z + each(alpha, p), (new_r, new_p)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class BiCGSTAB(_Krylov):
    """Stabilised bi-conjugate gradients, for any `I - M`. Two products a step.

    Args:
      num_steps, rtol, atol, max_steps: as for `CG`.
    """

    num_steps: int | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000

    def __post_init__(self):
        self._check()

    def _start(self, b):
        return b, b, b  # residual, shadow residual, direction

    def _step(self, apply, z, state):
        r, shadow, p = state
        rho = dot(shadow, r)
        ap = apply(p)
        alpha = _ratio(rho, dot(shadow, ap))
        s = r - each(alpha, ap)
        a_s = apply(s)
        omega = _ratio(dot(a_s, s), dot(a_s, a_s))
        new_r = s - each(omega, a_s)
        new_rho = dot(shadow, new_r)
        beta = _ratio(new_rho, rho) * _ratio(alpha, omega)
        new_p = new_r + each(beta, p - each(omega, ap))
        # Nearly orthogonal to the shadow: begin again from here.
        lost = tf.abs(new_rho) <= 1e-10 * norm(new_r) * norm(shadow)
        shadow, new_p = where(lost, new_r, shadow), where(lost, new_r, new_p)
        return z + each(alpha, p) + each(omega, s), (new_r, shadow, new_p)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Normal(LinearSolver):
    """`((I - M)^T (I - M) + ridge I) z = (I - M)^T b` by a solver of symmetric systems.

    Works for any M, as far as the condition number, which is squared, lets it: a ridge bounds that
    and shrinks z. One product with M and one with M^T a step.

    Args:
      solver: of symmetric positive definite systems; its tolerance is that of the normal equations.
      ridge: not negative.
    """

    solver: LinearSolver = CG()
    ridge: float = 0.0

    def __post_init__(self):
        if self.ridge < 0:
            raise ValueError(f"`ridge` must not be negative. Received: ridge={self.ridge}")

    @property
    def approximate(self):
        return self.solver.approximate

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`; `adjoint` is `z -> M^T z`."""
        if adjoint is None:
            raise ValueError("`adjoint`, the product with M^T, is needed for normal equations. "
                             "Received: adjoint=None")

        def apply(z):
            y = z - matvec(z)
            return y - adjoint(y) + self.ridge * z

        solution = self.solver(lambda z: z - apply(z), b - adjoint(b))
        residual = norm(b - solution.value + matvec(solution.value))
        return solution._replace(residual=residual)


def _ratio(a, b):
    """`a / b`, 0 where b is 0: a direction that is used up."""
    return tf.math.divide_no_nan(a, b)
