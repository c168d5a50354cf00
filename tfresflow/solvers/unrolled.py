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

__all__ = ["Truncated", "Unrolled"]


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Unrolled(Configurable):
    """`num_steps` applications of F, and back-propagation through all of them.

    Args:
      num_steps: at least 1. Memory grows with it.
    """

    num_steps: int

    def __post_init__(self):
        check_whole("num_steps", self.num_steps, 1)

    def __call__(self, function, x, args=()):
        """`F(F(... F(x)))`, a differentiable `Solution`; one more evaluation for the residual."""
        function, x, args, restore = flattened(function, x, args)
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
    """

    num_steps: int
    solver: FixedPointSolver = Anderson()
    on_failure: str = "raise"

    def __post_init__(self):
        check_whole("num_steps", self.num_steps, 1)
        check_solver(self.solver)
        check_policy(self.on_failure)

    def __call__(self, function, x, args=()):
        """Solves `h = function(h, *args)` from `x [N, ...]`; a `Solution`."""
        function, x, args, restore = flattened(function, x, args)
        solution, _ = solved(self.solver, function, x, args)
        start = checked(solution, "A fixed point", self.on_failure)
        return restore(solution._replace(value=_repeat(function, start, args, self.num_steps)))


def _repeat(function, x, args, num_steps):
    if is_followed([x, *args]):  # none can be followed into a loop that is in a graph
        for _ in range(num_steps):
            x = function(x, *args)
        return x
    return tf.while_loop(lambda k, x: k < num_steps, lambda k, x: (k + 1, function(x, *args)),
                         (tf.constant(0), x), maximum_iterations=num_steps)[1]
