"""The solution of a linear system of which only products are known, with a gradient."""

import dataclasses

import tensorflow as tf

from tfresflow.checks.rules import check_kind
from tfresflow.solvers.fixed_point import FixedPointSolver
from tfresflow.solvers.implicit import Implicit, check_policy, checked
from tfresflow.solvers.krylov import BiCGSTAB
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import LINEAR_LIMIT
from tfresflow.solvers.unknowns import check_args, kept, taken

__all__ = ["linear_solve"]

_SINGULAR = ("A is not invertible, or, for a series, `||I - A|| >= 1`; `matvec` is not linear, or "
             "mixes rows, of which it must treat each by itself")


def linear_solve(matvec, b, args=(), solver=BiCGSTAB(), on_failure="raise"):
    """Solves `A z = b` from products with A, and differentiates z: one more solve, with `A^T`.

        A^T w = dz,     db = w,     dtheta = -w^T (dA/dtheta) z

    with dz the derivative of a loss with respect to z. The steps of the solver are not kept. Where
    A is a matrix in memory, `tf.linalg.solve` does the same.

    Args:
      matvec: `(z, *args) -> A z`, `[N, ...] -> [N, ...]`, linear in z, each example by itself.
      b: `[N, ...]`, of floats.
      args: list or tuple of tensors that `matvec` takes. Tensors and variables that it uses
        besides get gradients, too, except in the body of a `tf.while_loop`, `tf.map_fn` or
        `tf.cond`.
      solver: a linear solver of this package, used for both systems. They are written for
        `(I - M) z = b`, so M is `I - A`. `BiCGSTAB` takes any A, `CG` one that is symmetric and
        positive definite, `Normal` any A that is invertible, and series one that is near I.
      on_failure: what to do if a solve does not converge: "raise"
        `tf.errors.InvalidArgumentError`, "warn" or "ignore", see `Implicit`. A solver with a fixed
        or random number of steps never fails.

    Returns:
      A `Solution`, whose `value` `[N, ...]` has the gradient.

    Raises:
      ValueError: if an argument is not what it should be, or `matvec` changes shape or dtype.
      tf.errors.InvalidArgumentError: if a solve does not converge and `on_failure` is "raise".

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> A, b = tf.Variable([[2., 1.], [0., 4.]]), tf.constant([[4., 8.]])
      >>> with tf.GradientTape() as tape:
      ...     z = solvers.linear_solve(lambda z: tf.linalg.matvec(A, z), b).value
      >>> print(z.numpy().round(3))
      [[1. 2.]]
      >>> print(tape.gradient(z, A).numpy().round(3))        # -w z^T, w = A^-T (1, 1)
      [[-0.5   -1.   ]
       [-0.125 -0.25 ]]

    References: Giles, Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation (2008), section 2.3.1.
    """
    check_kind("solver", solver, "be a linear solver of tfresflow.solvers", LinearSolver)
    check_policy(on_failure)
    check_args(args)
    b = taken("b", b)
    product = kept("matvec", matvec, "b", b)
    solution = Implicit(_Affine(solver), solver, on_failure).solve(
        lambda z, b, *args: z - product(z, *args) + b, tf.zeros_like(b), [b, *args])
    policy = "ignore" if solver.approximate else on_failure
    return solution._replace(value=checked(solution, "A linear system", policy, cause=_SINGULAR,
                                           limit=LINEAR_LIMIT))


@dataclasses.dataclass(frozen=True)
class _Affine(FixedPointSolver):
    """Solves `z = M z + b`, given as a function of z, by a linear solver."""

    solver: LinearSolver

    def __call__(self, function, x):
        """The `Solution`; x says the shape alone."""
        zero = tf.zeros_like(x)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(zero)
            b = function(zero)
        return self.solver(lambda z: function(z) - b, b,
                           lambda u: tape.gradient(b, zero, u, unconnected_gradients="zero"))
