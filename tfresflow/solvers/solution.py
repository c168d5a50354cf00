"""What every solver returns, and when it may stop."""

import math
import typing

import tensorflow as tf

from tfresflow.batches.rows import where
from tfresflow.checks.rules import check_number
from tfresflow.checks.traced import checks

__all__ = ["LINEAR_LIMIT", "Solution", "Tolerance", "check_tolerances", "require_converged"]

LINEAR_LIMIT = "`max_steps` or `max_terms`"  # of linear solvers

_DEFAULT = {tf.float64: 1e-12, tf.float32: 4e-7}  # else four times the type's epsilon
_EPSILON = {tf.float16: 2.0 ** -10, tf.bfloat16: 2.0 ** -7}
_FLOOR = {tf.float64: 1e-10, tf.float32: 1e-5}  # of the size: residuals that rounding may explain
_PATIENCE = 25  # evaluations without a smaller residual


class Solution(typing.NamedTuple):
    """What a solver returns: the answer for each example, and whether it converged.

    Attributes:
      value: `[N, ...]`; of a list or dictionary of unknowns, such a structure.
      num_steps: `[N]` int32, evaluations of the function (steps of a linear solver) until the
        example was done.
      residual: `[N]`, 2-norm of `F(value) - value`; linear, of `b - (I - M) value`.
      converged: `[N]` bool.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> picard = solvers.Picard(max_steps=4)
      >>> solution = picard(lambda x: 0.5 * x + 1, tf.constant([[0.0], [2.0]]))
      >>> print(solution.converged.numpy(), solution.residual.numpy())
      [False  True] [0.125 0.   ]
      >>> print(abs(solution.value[:, 0] - 2).numpy(), solution.error_bound(0.5).numpy())
      [0.25 0.  ] [0.25 0.  ]
    """

    value: tf.Tensor
    num_steps: tf.Tensor
    residual: tf.Tensor
    converged: tf.Tensor

    def error_bound(self, lipschitz):
        """`[N]`: `||value - solution|| <= residual / (1 - L)`, L the constant of F, 2-norm."""
        return self.residual / (1 - lipschitz)


class Tolerance:
    """When an example is done, by a solver's `rtol` and `atol` and the float type.

    Without a tolerance of the user's, one whose residual has come near rounding errors and falls
    no more is done, too. A residual that is not finite never is.

    Args:
      solver: has `rtol` and `atol`.
      dtype: of the unknown.
      unit: what the default of `atol` counts in, `[N]`; a linear system has no other scale than
        the norm of its right-hand side.
    """

    def __init__(self, solver, dtype, unit=1.0):
        default = _DEFAULT.get(dtype, 4 * _EPSILON.get(dtype, 0.0))
        self.rtol = default if solver.rtol is None else solver.rtol
        self.atol = default * unit if solver.atol is None else solver.atol
        self._floor = 0.0
        if solver.rtol is None:
            self._floor = _FLOOR.get(dtype, 32 * _EPSILON.get(dtype, 0.0))

    def reached(self, residual, size):
        """`residual <= atol + rtol * size`, both finite; `[N]`."""
        return (residual <= self.atol + self.rtol * size) & _finite(residual, size)

    def near_rounding(self, residual, size):
        """Whether rounding may explain the residual, where that counts; `[N]`."""
        return (residual <= self._floor * size) & _finite(residual, size)

    def stalled(self, since, residual, size):
        """`near_rounding`, and `since [N]` evaluations have not helped."""
        return (since >= _PATIENCE) & self.near_rounding(residual, size)


def require_converged(solution, what, cause="the map is no contraction", limit="`max_steps`"):
    """Returns `solution.value` if all examples are converged; else raises an error.

    The error, `tf.errors.InvalidArgumentError`, lists the likely causes. Under XLA, which has no
    errors, the examples that are not converged become NaN.

    Args:
      solution: a `Solution`.
      what: what was solved, for the message.
      cause: why it may have no solution that the solver finds.
      limit: what bounds the solver's steps.

    Returns:
      `[N, ...]`.

    Raises:
      tf.errors.InvalidArgumentError: if an example is not converged.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> solution = solvers.Picard(max_steps=4)(lambda x: 0.5 * x + 1, tf.zeros([1, 1]))
      >>> try:
      ...     solvers.require_converged(solution, "The equation")
      ... except tf.errors.InvalidArgumentError as error:
      ...     print(error.message[:30])
      The equation did not converge.
    """
    message = (f"{what} did not converge. Likely causes: {cause}; too few steps (the solver's "
               f"{limit}); a tolerance below what the float type can resolve (`rtol`, `atol`); "
               "weights or input that are not finite. Examples not converged, largest residual, "
               "steps:")
    failed = tf.reduce_sum(tf.cast(~solution.converged, tf.int32))
    worst = tf.reduce_max(solution.residual)
    steps = tf.reduce_max(solution.num_steps)
    with tf.control_dependencies(checks(tf.equal(failed, 0), message, failed, worst, steps)):
        value = solution.value
        return where(solution.converged, value, tf.constant(math.nan, value.dtype))


def check_tolerances(solver):
    """Raises `ValueError` unless `rtol` and `atol` make sense."""
    for name in ("rtol", "atol"):
        value = getattr(solver, name)
        if value is not None:
            check_number(name, value, "not be negative", lambda v: v >= 0)


def _finite(*tensors):
    return tf.reduce_all([tf.math.is_finite(t) for t in tensors], axis=0)
