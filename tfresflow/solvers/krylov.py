"""Krylov methods for `(I - M) z = b`, each example with coefficients of its own.

The residual that is reported, and that decides, is the true one.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches.rows import dot, each, norm, where
from tfresflow.checks.rules import check_kind, check_number, check_whole
from tfresflow.functions.traced import is_shareable
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import Solution, Tolerance, check_tolerances
from tfresflow.solvers.unknowns import kept, system

__all__ = ["BiCGSTAB", "CG", "Normal"]


@dataclasses.dataclass(frozen=True)
class _Krylov(LinearSolver):
    """The frame: subclasses say `_start(b)` and `_step(apply, z, state)`, state[0] the residual.

    The residual of the recurrence drifts away from the true one, in float32 soon: when it is
    small, the true one is computed, and what it is short of is solved for anew.
    """

    num_steps: int | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 1000

    @property
    def approximate(self):
        return self.num_steps is not None

    def __post_init__(self):
        check_tolerances(self)
        check_whole("max_steps", self.max_steps, 1)
        check_whole("num_steps", self.num_steps, 0, optional=True)

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`."""
        matvec, b = system(matvec, b)
        tolerance = Tolerance(self, b.dtype, norm(b))

        def apply(x):
            return x - matvec(x)

        def going_on(k, z, r, num_steps, done):
            del z, r, num_steps
            return (k < self.max_steps) & ~tf.reduce_all(done)

        def refine(k, z, r, num_steps, done):
            def reached(residual, d):
                return tolerance.reached(residual, norm(z + d))

            k, d, num_steps = self._search(apply, where(done, tf.zeros_like(r), r), k,
                                           self.max_steps, num_steps, done, reached)
            ahead = z + d
            left = b - apply(ahead)
            now, before = norm(left), norm(r)
            better = ~done & (now < before)
            z, r = where(better, ahead, z), where(better, left, r)
            # What a fresh start did not halve is as good as it gets.
            done |= tolerance.reached(norm(r), norm(z)) | ~(now < 0.5 * before)
            return k, z, r, num_steps, done

        none = tf.zeros(tf.shape(b)[:1], tf.int32)
        if self.approximate:
            _, z, num_steps = self._search(apply, b, 0, self.num_steps, none, none > 0,
                                           lambda residual, d: none > 0)
            r = b - apply(z)
        else:
            _, z, r, num_steps, _ = tf.while_loop(
                going_on, refine, (tf.constant(0), tf.zeros_like(b), b, none, norm(b) == 0))
        residual, size = norm(r), norm(z)
        return Solution(z, num_steps, residual, tolerance.reached(residual, size)
                        | tolerance.near_rounding(residual, size))

    def _search(self, apply, b, first, last, num_steps, done, reached):
        """Steps `first, ..., last - 1` from zero, until `reached`: `(k, z, num_steps)`."""
        def going_on(k, z, done, num_steps, *state):
            del z, num_steps, state
            return (k < last) & ~tf.reduce_all(done)

        def step(k, z, done, num_steps, *state):
            num_steps = tf.where(done, num_steps, k + 1)
            ahead, new = self._step(apply, z, state)
            residual = norm(new[0])
            done |= ~tf.math.is_finite(residual)  # keep what was there before
            z = where(done, z, ahead)
            state = [where(done, old, now) for old, now in zip(state, new)]
            done |= (residual == 0) | reached(residual, z)
            return k + 1, z, done, num_steps, *state

        start = tf.convert_to_tensor(first), tf.zeros_like(b), done | (norm(b) == 0), num_steps
        k, z, _, num_steps, *_ = tf.while_loop(going_on, step, (*start, *self._start(b)))
        return k, z, num_steps


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class CG(_Krylov):
    """Conjugate gradients, for symmetric positive definite `I - M`. One product with M each step.

    Args:
      num_steps: fixed number of steps; None: each example stops by tolerance.
      rtol, atol: as for `Neumann`.
      max_steps: most steps by tolerance.

    Raises:
      ValueError: if a tolerance or `num_steps` is negative, or `max_steps` is below 1.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> m = tf.constant([[0.0, 0.5], [0.5, 0.0]])  # symmetric, eigenvalues 0.5 and -0.5
      >>> solution = solvers.CG()(lambda z: z @ m, tf.constant([[0.0, 3.0]]))
      >>> print(solution.value.numpy().round(2), bool(solution.num_steps[0] <= 3))
      [[2. 4.]] True

    References: Hestenes and Stiefel, Methods of conjugate gradients for solving linear systems
    (1952).
    """

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
    """Stabilised bi-conjugate gradients, for any `I - M`. Two products with M each step.

    Args:
      num_steps, rtol, atol, max_steps: as for `CG`.

    Raises:
      ValueError: as for `CG`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> m = tf.constant([[0.5, 2.0], [0.0, -3.0]])  # not symmetric, and no contraction
      >>> b = tf.constant([[-1.5, 4.0]])
      >>> solution = solvers.BiCGSTAB()(lambda z: tf.linalg.matvec(m, z), b)
      >>> print(solution.value.numpy().round(2), bool(solution.converged[0]))
      [[1. 1.]] True

    References: van der Vorst, Bi-CGSTAB (1992).
    """

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

    Works for any M with `I - M` invertible, but squares the condition number; a positive ridge
    bounds it, and biases z towards 0. One product with M and one with M^T for each step.

    Args:
      solver: linear solver for symmetric positive definite systems; its tolerance is on the
        residual of the normal equations.
      ridge: not negative; 0: none.

    Raises:
      ValueError: if `solver` is no linear solver, or `ridge` is negative.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> m, b = tf.constant([[0.0, -3.0], [3.0, 0.0]]), tf.constant([[4.0, -2.0]])
      >>> def adjoint(z):
      ...     return tf.linalg.matvec(m, z, transpose_a=True)
      >>> solution = solvers.Normal()(lambda z: tf.linalg.matvec(m, z), b, adjoint)
      >>> print(solution.value.numpy().round(2))
      [[1. 1.]]

    References: Liao et al., Reviving and improving recurrent back-propagation (2018), section 4.1.
    """

    solver: LinearSolver = CG()
    ridge: float = 0.0

    def __post_init__(self):
        check_kind("solver", self.solver, "be a linear solver of tfresflow.solvers", LinearSolver)
        check_number("ridge", self.ridge, "not be negative", lambda ridge: ridge >= 0)

    @property
    def approximate(self):
        return self.solver.approximate

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return is_shareable(self.solver)

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`; `adjoint` is `z -> M^T z`.

        Raises:
          ValueError: if `adjoint` is None, or an argument is not what it should be.
        """
        if adjoint is None:
            raise ValueError("`adjoint`, the product with M^T, is needed for normal equations. "
                             "Received: adjoint=None")
        matvec, b = system(matvec, b)
        adjoint = kept("adjoint", adjoint, "b", b)

        def apply(z):
            y = z - matvec(z)
            return y - adjoint(y) + self.ridge * z

        solution = self.solver(lambda z: z - apply(z), b - adjoint(b))
        residual = norm(b - solution.value + matvec(solution.value))
        converged = solution.converged
        if not self.ridge and getattr(self.solver, "rtol", None) is None:
            # A condition number that is squared may hide a residual.
            converged &= Tolerance(CG(), b.dtype).near_rounding(residual, norm(solution.value))
        return solution._replace(residual=residual, converged=converged)


def _ratio(a, b):
    """`a / b`, 0 where b is 0: a direction that is used up."""
    return tf.math.divide_no_nan(a, b)
