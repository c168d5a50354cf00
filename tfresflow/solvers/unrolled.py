"""Fixed points by back-propagation through steps.

    Unrolled     through all steps (BPTT)
    Truncated    solves, then through K more steps (TBPTT)
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches.rows import norm
from tfresflow.checks.rules import check_whole
from tfresflow.functions.derivatives import is_followed
from tfresflow.saving.configurable import Configurable
from tfresflow.solvers.accelerated import Anderson
from tfresflow.solvers.fixed_point import FixedPointSolver
from tfresflow.solvers.implicit import check_policy, check_solver, checked, solved
from tfresflow.solvers.solution import Solution, Tolerance
from tfresflow.solvers.structures import flattened
from tfresflow.solvers.unknowns import kept

__all__ = ["Truncated", "Unrolled"]


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Unrolled(Configurable):
    """`num_steps` applications of F, and back-propagation through all of them.

    Args:
      num_steps: at least 1. Memory grows with it.

    Raises:
      ValueError: if `num_steps` is not a positive integer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> a = tf.Variable([[1.0]])
      >>> with tf.GradientTape() as tape:  # the fixed point is 2 a
      ...     h = solvers.Unrolled(num_steps=3)(lambda h: 0.5 * h + a, tf.zeros([1, 1])).value
      >>> print(h.numpy(), tape.gradient(h, a).numpy())  # 1 + 1/2 + 1/4
      [[1.75]] [[1.75]]

    References: Werbos, Backpropagation through time: what it does and how to do it (1990).
    """

    num_steps: int

    def __post_init__(self):
        check_whole("num_steps", self.num_steps, 1)

    def __call__(self, function, x, args=()):
        """`F(F(... F(x)))`, a differentiable `Solution`; one more evaluation for the residual.

        Args:
          function, x, args: as for `Implicit`, but here x gets a gradient.
        """
        function, x, args, restore = flattened(function, x, args)
        function = kept("function", function, "x", x)
        value = _repeat(function, x, args, self.num_steps)
        residual = tf.stop_gradient(norm(function(value, *args) - value))
        converged = Tolerance(Anderson(), value.dtype).reached(residual, norm(value))
        return restore(Solution(value, tf.fill(tf.shape(residual), self.num_steps), residual,
                                converged))


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Truncated(Configurable):
    """Solves `h = F(h)`, applies F `num_steps` more times, and back-propagates through these alone.

    The gradient is that of `Implicit` with `Neumann(num_terms=num_steps - 1)`, an approximation;
    memory grows with `num_steps`.

    Args:
      num_steps: at least 1.
      solver: fixed-point solver.
      on_failure: as for `Implicit`, of the value only.

    Raises:
      ValueError: if `num_steps` is not a positive integer, or one of the others is none of these.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> a = tf.Variable([[1.0]])
      >>> with tf.GradientTape() as tape:
      ...     h = solvers.Truncated(num_steps=3)(lambda h: 0.5 * h + a, tf.zeros([1, 1])).value
      >>> print(h.numpy().round(2), tape.gradient(h, a).numpy())  # 1 + 1/2 + 1/4
      [[2.]] [[1.75]]

    References: Liao et al., Reviving and improving recurrent back-propagation (2018),
    proposition 2.
    """

    num_steps: int
    solver: FixedPointSolver = Anderson()
    on_failure: str = "raise"

    def __post_init__(self):
        check_whole("num_steps", self.num_steps, 1)
        check_solver(self.solver)
        check_policy(self.on_failure)

    def __call__(self, function, x, args=()):
        """Solves `h = function(h, *args)` from `x [N, ...]`; a `Solution`.

        Args:
          function, x, args: as for `Implicit`.

        Raises:
          tf.errors.InvalidArgumentError: if it does not converge and `on_failure` is "raise".
        """
        function, x, args, restore = flattened(function, x, args)
        solution, _ = solved(self.solver, function, x, args)
        function = kept("function", function, "x", x)
        start = checked(solution, "A fixed point", self.on_failure)
        return restore(solution._replace(value=_repeat(function, start, args, self.num_steps)))


def _repeat(function, x, args, num_steps):
    if is_followed([x, *args]):  # none can be followed into a loop that is in a graph
        for _ in range(num_steps):
            x = function(x, *args)
        return x
    return tf.while_loop(lambda k, x: k < num_steps, lambda k, x: (k + 1, function(x, *args)),
                         (tf.constant(0), x), maximum_iterations=num_steps)[1]
