"""What every solver returns, and the tolerances that every solver takes."""

import typing

import tensorflow as tf

__all__ = ["Solution", "check_limits", "default_tolerance", "require_converged"]


class Solution(typing.NamedTuple):
    """The answer of a solver and how far to trust it, for each example.

    Attributes:
      value: `[N, ...]`.
      num_steps: `[N]` int32, evaluations of the function (steps of a linear solver) until the
        example was done.
      residual: `[N]`, 2-norm of `F(value) - value`; linear, of `b - (I - M) value`.
      converged: `[N]` bool.
    """

    value: tf.Tensor
    num_steps: tf.Tensor
    residual: tf.Tensor
    converged: tf.Tensor

    def error_bound(self, lipschitz):
        """`[N]`: `||value - solution|| <= residual / (1 - L)`, L the constant of F, 2-norm."""
        return self.residual / (1 - lipschitz)


def require_converged(solution, what):
    """`solution.value`, or `tf.errors.InvalidArgumentError` with the likely causes.

    Args:
      solution: a `Solution`.
      what: what was solved, for the message.
    """
    message = (f"{what} did not converge. Likely causes: a layer's norm has reached 1 (weights "
               "loaded or swapped without an update of the power iteration: call "
               "`refresh_norms`); too few steps (`max_steps`); a tolerance below what the float "
               "type can resolve (`rtol`, `atol`); weights or input that are not finite. "
               "Examples not converged, largest residual, steps:")
    failed = tf.reduce_sum(tf.cast(~solution.converged, tf.int32))
    worst = tf.reduce_max(solution.residual)
    check = tf.debugging.Assert(tf.equal(failed, 0),
                                [message, failed, worst, tf.reduce_max(solution.num_steps)])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(solution.value)


def check_limits(solver, steps="max_steps"):
    """Raises `ValueError` unless `rtol`, `atol` and the number of steps make sense."""
    for name in ("rtol", "atol"):
        value = getattr(solver, name)
        if value is not None and value < 0:
            raise ValueError(f"`{name}` must not be negative. Received: {name}={value}")
    if getattr(solver, steps) < 1:
        raise ValueError(f"`{steps}` must be at least 1. Received: {steps}="
                         f"{getattr(solver, steps)}")


def default_tolerance(solver, dtype):
    """`(rtol, atol)`, those that are None by the float type: 1e-12 in float64, else 4e-7."""
    default = {tf.float64: 1e-12}.get(dtype, 4e-7)
    return tuple(default if t is None else t for t in (solver.rtol, solver.atol))
