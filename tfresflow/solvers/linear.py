"""Linear systems `(I - M) z = b` from products with M, each example by itself.

The gradient through a fixed point `h = F(h)` is one such solve, with `M = J^T`; that through the
inverse of a residual block `x + g(x)` has `M = -J_g^T`.

    Neumann      b + M b + ... + M^K b
    FixedPoint   z <- M z + b: the original recurrent back-propagation
    BiCGSTAB     two products a step, far fewer steps near ||M|| = 1
    CG           for symmetric positive definite I - M
    Normal       (I - M)^T (I - M) z = (I - M)^T b by CG: one product with M, one with M^T
    Roulette     a random number of Neumann's terms: unbiased

Each is called with `(matvec, b, adjoint)`: `z -> M z`, `b [N, ...]`, and `z -> M^T z` for those
that need it. M acts on each example by itself.
"""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.batches.rows import last_nonzero, norm, where
from tfresflow.checks.rules import check, check_number, check_object, check_whole
from tfresflow.functions.traced import is_shareable
from tfresflow.saving.configurable import Configurable
from tfresflow.solvers.solution import Solution, Tolerance, check_tolerances
from tfresflow.solvers.unknowns import system

__all__ = ["FixedPoint", "LinearSolver", "Neumann", "Roulette", "num_terms"]


def num_terms(lipschitz, tolerance):
    """Terms after b that a Neumann series needs: the least K with `L^(K+1) / (1 - L) <= tolerance`.

    The left side bounds the error of the sum, as a fraction of `||b||`.

    Args:
      lipschitz: `||M|| <= L`, in [0, 1).
      tolerance: positive.

    Raises:
      ValueError: if `lipschitz` is not in [0, 1), or `tolerance` is not positive.

    Example:
      >>> from tfresflow import solvers
      >>> solvers.num_terms(0.5, 1e-3), solvers.num_terms(0.9, 1e-3)
      (10, 87)
    """
    check_number("lipschitz", lipschitz, "be in [0, 1)", lambda value: 0 <= value < 1)
    check_number("tolerance", tolerance, "be positive", lambda value: value > 0)
    if lipschitz == 0:
        return 0
    return max(0, math.ceil(math.log(tolerance * (1 - lipschitz)) / math.log(lipschitz)) - 1)


class LinearSolver(Configurable):
    """Base of solvers of `(I - M) z = b`: `solver(matvec, b, adjoint=None) -> Solution`.

    `matvec` is `z -> M z`, `adjoint` is `z -> M^T z`, and b is `[N, ...]`. A subclass that draws a
    new seed at each call must set `shareable = False`, see `functions.traced.is_shareable`.

    Attributes:
      approximate: whether it takes a fixed or random number of steps, so that the caller must not
        expect it to converge.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> choices, b = [solvers.Neumann(), solvers.BiCGSTAB(), solvers.CG()], tf.ones([1, 1])
      >>> [round(float(solve(lambda z: 0.5 * z, b).value[0, 0]), 2) for solve in choices]
      [2.0, 2.0, 2.0]
    """

    approximate = False

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`, `[N, ...]`: a `Solution`."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")


class _Series(LinearSolver):
    """Solvers of one product with M a step, which says the residual of the point it is made at."""

    def _solve(self, advance, b, z, term, cap):
        """`advance(z, term) -> (residual of z, next z, next term)`.

        At most `cap` steps beyond the first z are taken.
        """
        n, tolerance = tf.shape(z)[0], Tolerance(self, z.dtype, norm(b))

        def going_on(k, z, term, num_steps, residual, least, since, done):
            del z, term, num_steps, residual, least, since
            return (k <= cap) & ~tf.reduce_all(done)

        def step(k, z, term, num_steps, residual, least, since, done):
            r, ahead, term = advance(z, term)
            now, size = norm(r), norm(z)
            num_steps = tf.where(done, num_steps, k + 1)
            residual = tf.where(done, residual, now)
            since = tf.where(done, since, tf.where(now < least, 0, since + 1))
            least = tf.minimum(least, now)
            done |= ~tf.math.is_finite(now)
            if not self.approximate:
                done |= tolerance.reached(now, size) | tolerance.stalled(since, now, size)
            z = where(done | (k >= cap), z, ahead)
            return k + 1, z, term, num_steps, residual, least, since, done

        none, zero = tf.zeros([n], tf.int32), tf.zeros([n], z.dtype)
        _, z, _, num_steps, residual, _, since, _ = tf.while_loop(
            going_on, step, (tf.constant(0), z, term, none, zero, zero + float("inf"), none,
                             tf.zeros([n], tf.bool)), maximum_iterations=cap + 1)
        size = norm(z)
        return Solution(z, num_steps, residual, tolerance.reached(residual, size)
                        | tolerance.stalled(since, residual, size))


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Neumann(_Series):
    """The Neumann series `z = sum_{k <= K} M^k b`.

    The residual of a partial sum is the next term, so stopping by tolerance costs nothing more.

    Args:
      num_terms: K, fixed; None: each example stops by tolerance.
      lipschitz: L with `||M|| <= L`, if known: K is then at most `solvers.num_terms(L, rtol)`.
      rtol, atol: stop at `||b - (I - M) z|| <= atol + rtol * ||z||`; None: 4e-7 in float32,
        1e-12 in float64 (`atol`: times `||b||`), or, if rounding errors prevent that, where the
        residual no longer falls.
      max_terms: largest K if neither `num_terms` nor `lipschitz` is given.

    Raises:
      ValueError: if a tolerance or `num_terms` is negative, `max_terms` is below 1, or `lipschitz`
        is not in [0, 1).

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> three = solvers.Neumann(num_terms=3)
      >>> float(three(lambda z: 0.5 * z, tf.ones([1, 1])).value[0, 0])  # 1 + 1/2 + 1/4 + 1/8
      1.875

    References: Liao et al., Reviving and improving recurrent back-propagation (2018), algorithm 2.
    """

    num_terms: int | None = None
    lipschitz: float | None = None
    rtol: float | None = None
    atol: float | None = None
    max_terms: int = 5000

    def __post_init__(self):
        check_tolerances(self)
        check_whole("max_terms", self.max_terms, 1)
        check_whole("num_terms", self.num_terms, 0, optional=True)
        if self.lipschitz is not None:
            num_terms(self.lipschitz, 1.0)

    @property
    def approximate(self):
        return self.num_terms is not None

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`; `K + 1` products with M, the last one for the residual."""
        matvec, b = system(matvec, b)
        cap = self.num_terms
        if cap is None:
            cap, rtol = self.max_terms, Tolerance(self, b.dtype).rtol
            if self.lipschitz is not None and rtol > 0:
                cap = num_terms(self.lipschitz, rtol)

        def advance(z, term):
            term = matvec(term)
            return term, z + term, term

        return self._solve(advance, b, b, b, cap)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class FixedPoint(_Series):
    """`z <- M z + b` from `z_0`: recurrent back-propagation as Almeida and Pineda had it (1987).

    From zeros, `K + 1` steps give the sum of `Neumann(num_terms=K)`. From `z_0` elsewhere, the part
    `M^k z_0` remains after k steps, however small b is.

    Args:
      num_steps: fixed number of steps; None: each example stops by tolerance.
      start: "zeros", or "uniform" in [0, 1) as in Liao et al. (2018).
      seed: integer for the uniform start; None: a different start at each call.
      rtol, atol: as for `Neumann`.
      max_steps: most steps by tolerance.

    Raises:
      ValueError: if `start` is neither of these, or a number is out of its range.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> four = solvers.FixedPoint(num_steps=4)
      >>> float(four(lambda z: 0.5 * z, tf.ones([1, 1])).value[0, 0])  # 1 + 1/2 + 1/4 + 1/8
      1.875

    References: Liao et al., Reviving and improving recurrent back-propagation (2018), algorithm 1.
    """

    num_steps: int | None = None
    start: str = "zeros"
    seed: int | None = None
    rtol: float | None = None
    atol: float | None = None
    max_steps: int = 5000

    def __post_init__(self):
        check_tolerances(self)
        check_whole("max_steps", self.max_steps, 1)
        check_whole("num_steps", self.num_steps, 0, optional=True)
        check(self.start in ("zeros", "uniform"), "start", 'be "zeros" or "uniform"', self.start)
        seeds.check_seed(self.seed)

    @property
    def approximate(self):
        return self.num_steps is not None

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return self.start == "zeros" or self.seed is not None

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`; one product with M more than steps, for the residual."""
        matvec, b = system(matvec, b)
        z = tf.zeros_like(b)
        if self.start == "uniform":
            z = tf.random.stateless_uniform(tf.shape(b), seeds.as_seed(self.seed), dtype=b.dtype)
            z = where(norm(b) == 0, b, tf.ensure_shape(z, b.shape))  # solved by zeros

        def advance(z, _):
            ahead = matvec(z) + b
            return ahead - z, ahead, ()

        cap = self.max_steps if self.num_steps is None else self.num_steps
        return self._solve(advance, b, z, (), cap)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Roulette(LinearSolver):
    """A random number of Neumann's terms, weighted so that the mean is the whole series.

    The sum is `sum_{k <= n} c_k M^k b`, `E[c_k] = 1`. All examples of a batch share n.
    `Solution.converged` is always False, as a single draw is no solution.

    Args:
      terms: `Geometric(...)` or `Poisson(...)` of `tfresflow.logdet`.
      seed: integer, for the same number of terms at each call; None: a new one at each call.

    Raises:
      ValueError: if `terms` has no `draw`, or `seed` is no integer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, solvers
      >>> draws = [solvers.Roulette(logdet.Poisson(rate=2.0), seed) for seed in range(50)]
      >>> z = [solve(lambda z: 0.5 * z, tf.ones([1, 1])).value for solve in draws]
      >>> bool(abs(tf.reduce_mean(z) - 2) < 0.3), bool(tf.math.reduce_std(z) > 0)
      (True, True)

    References: Chen et al., Residual Flows (2019), equation 6.
    """

    terms: object
    seed: int | None = None
    approximate = True

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return self.seed is not None and is_shareable(self.terms)

    def __post_init__(self):
        check_object("terms", self.terms, "be a `logdet.Geometric` or `logdet.Poisson`", "draw")
        seeds.check_seed(self.seed)

    def __call__(self, matvec, b, adjoint=None):
        """`sum_k c_k M^k b`, a `Solution`; one product with M more than terms, for the residual."""
        matvec, b = system(matvec, b)
        weights = self.terms.draw(seeds.as_seed(self.seed), b.dtype)  # [K + 1]
        last = last_nonzero(weights)

        def step(k, z, term):
            term = matvec(term)
            return k + 1, z + weights[k] * term, term

        _, z, _ = tf.while_loop(lambda k, z, term: k <= last, step, (tf.constant(1), b, b))
        residual = norm(b - z + matvec(z))
        return Solution(z, tf.fill(tf.shape(residual), last + 1), residual,
                        tf.zeros_like(residual, tf.bool))
