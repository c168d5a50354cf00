"""Gradients of fixed points `h = F(h)`, where F may use anything: inputs, weights, Keras layers.

    Implicit     solves, and differentiates the equation: one linear solve, no memory of the steps
    Unrolled     back-propagates through all steps (BPTT)
    Truncated    solves, then back-propagates through K more steps (TBPTT)

All are solvers themselves: `method(F, start) -> Solution`, whose `value` has the gradient. What F
uses needs no declaring: it is found by tracing F once. With `J = dF/dh` at the solution,

    dh/dtheta^T b = (dF/dtheta)^T z,   z = (I - J^T)^-1 b

z is itself the fixed point of `z = J^T z + b` and is differentiated as one, so that gradients of
gradients are right, to any order.

References: Almeida (1987); Pineda (1987); Liao et al., Reviving and improving recurrent
back-propagation (2018); Bai et al., Deep equilibrium models (2019).
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable
from tfresflow.solvers.accelerated import Anderson
from tfresflow.solvers.batch import norm
from tfresflow.solvers.fixed_point import FixedPointSolver
from tfresflow.solvers.krylov import BiCGSTAB
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import Solution, default_tolerance, require_converged

__all__ = ["Implicit", "Truncated", "Unrolled"]

_POLICIES = ("raise", "warn", "ignore")


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Implicit(Configurable):
    """A fixed point with the gradient of the implicit function theorem.

    Exact where both solves converge, and of a memory that no number of steps changes. F must be
    a function of each example by itself, and differentiable where it is solved; right wherever
    `I - J` is invertible, contraction or not.

    Args:
      solver: of the fixed point.
      adjoint: a linear solver, of the gradient.
      on_failure: what to do when a solve does not converge, of the gradient as of the value, unless
        its solver was asked for a fixed amount of work: "raise" `tf.errors.InvalidArgumentError`,
        "warn" by a line to standard error, or "ignore".

    Example:

    ```python
    root = solvers.Implicit(solvers.Anderson(), solvers.BiCGSTAB())
    h = root(lambda h: cell(tf.concat([h, x], 1)), tf.zeros([n, d])).value
    ```
    """

    solver: FixedPointSolver = Anderson()
    adjoint: LinearSolver = BiCGSTAB()
    on_failure: str = "raise"

    def __post_init__(self):
        if self.on_failure not in _POLICIES:
            raise ValueError(f"`on_failure` must be one of {_POLICIES}. "
                             f"Received: on_failure={self.on_failure!r}")

    def __call__(self, function, x, args=None):
        """Solves `h = function(h)`; the `value` of the `Solution` has a gradient.

        Args:
          function: `[N, ...] -> [N, ...]`.
          x: `[N, ...]`, where to start. It has no gradient: the answer does not depend on it.
          args: tensors, if they are all that `function` depends on: it is then called as
            `function(h, *args)` and not traced to find what it uses, which without `tf.function`
            takes a while at each call. If it has an attribute `linearise(h, *args)`, which returns
            `(F(h), vjp)`, that is used in place of a tape.
        """
        solution = self.solve(function, x, args)
        return solution._replace(value=checked(solution, "A fixed point", self.on_failure))

    def solve(self, function, x, args=None):
        """As a call, but a value that is not converged is for the caller to see and to report."""
        equation = _Equation(function, args is not None)
        solution, found = _solve(self.solver, lambda h: equation(h, *(args or ())), x)
        value = _attach(equation, solution.value, found if args is None else list(args),
                        self.adjoint, self.on_failure)
        return solution._replace(value=value)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Unrolled(Configurable):
    """`num_steps` applications of F, and back-propagation through all of them.

    Args:
      num_steps: at least 1. Memory grows with it.
    """

    num_steps: int

    def __post_init__(self):
        _check_steps(self.num_steps, 1)

    def __call__(self, function, x):
        """`F(F(... F(x)))`, a differentiable `Solution`; one more evaluation for the residual."""
        return _measured(function, _repeat(function, x, self.num_steps), self.num_steps)


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Truncated(Configurable):
    """A fixed point, and back-propagation through `num_steps` more applications of F only.

    The gradient is that of `Implicit` with `Neumann(num_terms=num_steps - 1)`, at a memory that
    grows with their number.

    Args:
      num_steps: at least 1.
      solver: of the fixed point.
      on_failure: as for `Implicit`, of the value; the gradient is an approximation by intent.
    """

    num_steps: int
    solver: FixedPointSolver = Anderson()
    on_failure: str = "raise"

    def __post_init__(self):
        _check_steps(self.num_steps, 1)
        if self.on_failure not in _POLICIES:
            raise ValueError(f"`on_failure` must be one of {_POLICIES}. "
                             f"Received: on_failure={self.on_failure!r}")

    def __call__(self, function, x):
        """Solves `h = function(h)` from `x [N, ...]`; a `Solution`."""
        solution, _ = _solve(self.solver, function, x)
        start = checked(solution, "A fixed point", self.on_failure)
        value = _repeat(function, start, self.num_steps)
        return solution._replace(value=value)


class _Equation:
    """`(h, *sources) -> F(h)`, and its linearisation; `explicit`: F takes the sources, too."""

    def __init__(self, function, explicit):
        self.function, self.explicit = function, explicit

    def __call__(self, h, *sources):
        return self.function(h, *(sources if self.explicit else ()))

    def linearise(self, h, *sources):
        """`(F(h), vjp)` with `vjp(u) = u^T dF/dh`, for any number of u."""
        if hasattr(self.function, "linearise"):
            return self.function.linearise(h, *sources)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(h)
            y = self(h, *sources)
        return y, lambda u: tape.gradient(y, h, u, unconnected_gradients="zero")

    def local(self, sources):
        """The sources as tensors of the graph that is being built, where F can be given them."""
        return [tf.identity(s) for s in sources] if self.explicit else sources

    def adjoint(self):
        """`(z, b, h, *sources) -> J^T z + b`, J at h."""
        def step(z, b, h, *sources):
            return self.linearise(h, *sources)[1](z) + b

        made = _Equation(step, True)
        if not self.explicit:
            made.local = lambda sources: sources
        return made


def _attach(equation, value, sources, adjoint, on_failure):
    """`value`, a fixed point found elsewhere, with the gradient of one."""
    value = tf.stop_gradient(value)

    @tf.custom_gradient
    def attached(*sources_read):
        del sources_read

        def backward(b):
            own = equation.local(sources)
            # The solution once more, as a function of all that F uses: for gradients of gradients.
            h = _attach(equation, value, own, adjoint, on_failure)
            vjp = equation.linearise(h, *own)[1]
            solution = adjoint(vjp, b, lambda v: _transposed(vjp, h, v))
            z = checked(solution, "The adjoint solve of a fixed point",
                        "ignore" if adjoint.approximate else on_failure)
            z = _attach(equation.adjoint(), z, [b, h, *own], adjoint, on_failure)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                y = equation(h, *own)
            gradients = tape.gradient(y, own, z, unconnected_gradients="zero")
            return [tf.convert_to_tensor(d) for d in gradients]

        return tf.identity(value), backward

    return attached(*(tf.convert_to_tensor(s) for s in sources)) if sources else value


def _solve(solver, function, x):
    """`(solution, sources)`, whose steps no tape keeps; sources: what F uses besides x."""
    def solve(x):
        return tf.nest.map_structure(tf.stop_gradient, solver(function, x))

    traced = tf.function(solve, autograph=False).get_concrete_function(
        tf.TensorSpec(x.shape, x.dtype))
    found = [*traced.captured_inputs, *traced.variables]
    return traced(x), [s for s in found if s.dtype.is_floating]


def checked(solution, what, on_failure):
    """`solution.value`, once `on_failure` has been done if not all examples are converged."""
    if on_failure == "raise":
        return require_converged(solution, what)
    if on_failure == "warn":
        failed = tf.reduce_sum(tf.cast(~solution.converged, tf.int32))

        def warn():
            return tf.print("warning:", what, "did not converge. Examples not converged, largest "
                            "residual:", failed, tf.reduce_max(solution.residual))

        said = tf.cond(failed > 0, lambda: (warn(), failed)[1], lambda: failed)
        with tf.control_dependencies([said]):
            return tf.identity(solution.value)
    return solution.value


def _transposed(vjp, x, v):
    """`J v`: u -> J^T u is linear, and this is its own vector-Jacobian product."""
    u = tf.zeros_like(x)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(u)
        product = vjp(u)
    return tape.gradient(product, u, v, unconnected_gradients="zero")


def _repeat(function, x, num_steps):
    return tf.while_loop(lambda k, x: k < num_steps, lambda k, x: (k + 1, function(x)),
                         (tf.constant(0), x), maximum_iterations=num_steps)[1]


def _measured(function, value, num_steps):
    """A `Solution` of what a fixed number of steps has come to."""
    residual = tf.stop_gradient(norm(function(value) - value))
    rtol, atol = default_tolerance(Anderson(), value.dtype)
    return Solution(value, tf.fill(tf.shape(residual), num_steps), residual,
                    residual <= atol + rtol * norm(value))


def _check_steps(num_steps, least):
    if num_steps < least:
        raise ValueError(f"`num_steps` must be at least {least}. Received: num_steps={num_steps}")
