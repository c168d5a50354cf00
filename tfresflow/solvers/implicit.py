"""Gradients of fixed points `h = F(h)`, where F may use anything: inputs, weights, Keras layers.

`Implicit` solves, and differentiates the equation: one linear solve, no memory of the steps. It is
a solver itself: `Implicit()(F, start) -> Solution`, whose `value` has the gradient. What F uses
needs no declaring: it is found by tracing F once. With `J = dF/dh` at the solution,

    dh/dtheta^T b = (dF/dtheta)^T z,   z = (I - J^T)^-1 b

z is itself the fixed point of `z = J^T z + b` and is differentiated as one, so that gradients of
gradients are right, to any order.

References: Almeida (1987); Pineda (1987); Liao et al., Reviving and improving recurrent
back-propagation (2018); Bai et al., Deep equilibrium models (2019).
"""

import dataclasses

import keras
import tensorflow as tf
from tensorflow.python.eager import record

from tfresflow.checks.rules import check_kind
from tfresflow.functions.derivatives import OUTSIDE, hidden, is_followed, with_gradient
from tfresflow.functions.traced import is_shareable
from tfresflow.saving.configurable import Configurable
from tfresflow.solvers.accelerated import Anderson
from tfresflow.solvers.fixed_point import FixedPointSolver
from tfresflow.solvers.krylov import BiCGSTAB
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import LINEAR_LIMIT, require_converged
from tfresflow.solvers.structures import flattened

__all__ = ["Implicit", "check_policy", "check_solver", "checked", "solved"]

_POLICIES = ("raise", "warn", "ignore")
_SINGULAR = ("`I - dF/dh` is not invertible, or, for a series, F is no contraction; F mixes rows, "
             "of which it must treat each by itself (a single vector is `[1, D]`)")
# Graphs whose gradient is built in another graph, where what a closure holds is not recorded.
_BODIES = ("WhileBodyFuncGraph", "WhileCondFuncGraph", "CondBranchFuncGraph")


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Implicit(Configurable):
    """Solves `h = F(h)`, and differentiates h by the implicit function theorem.

    The gradient costs one linear solve, and its memory does not grow with the number of steps. It
    is exact if both solves converge, wherever `I - dF/dh` is invertible; F need not be a
    contraction. F must treat each example by itself, and be differentiable at the solution.
    `tf.vectorized_map` drops custom gradients, this one among them; use `tf.map_fn`.

    Args:
      solver: fixed-point solver for the value.
      adjoint: linear solver for the gradient.
      on_failure: what to do if one of them does not converge: "raise"
        `tf.errors.InvalidArgumentError`, "warn" by a line to standard error, or "ignore". An
        adjoint with a fixed or random number of steps is never a failure.

    Raises:
      ValueError: if an argument is none of these.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> a = tf.Variable([[4.0]])
      >>> with tf.GradientTape() as tape:
      ...     h = solvers.Implicit()(lambda h: (h + a / h) / 2, tf.ones([1, 1])).value
      >>> round(float(h[0, 0]), 2)  # the square root
      2.0
      >>> round(float(tape.gradient(h, a)[0, 0]), 2)
      0.25

    References: Liao et al., Reviving and improving recurrent back-propagation (2018), equations 8
    and 9; Bai et al., Deep equilibrium models (2019).
    """

    solver: FixedPointSolver = Anderson()
    adjoint: LinearSolver = BiCGSTAB()
    on_failure: str = "raise"

    def __post_init__(self):
        check_solver(self.solver)
        check_policy(self.on_failure)
        check_kind("adjoint", self.adjoint, "be a linear solver of tfresflow.solvers",
                   LinearSolver)

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return is_shareable(self.solver) and is_shareable(self.adjoint)

    def __call__(self, function, x, args=()):
        """Solves `h = function(h)`; the `value` of the `Solution` has a gradient.

        Args:
          function: `[N, ...] -> [N, ...]`.
          x: `[N, ...]`, where to start. It gets no gradient, as the solution does not depend on it.
            A list or dictionary of such tensors, nested or not, all of one dtype and one N, is
            solved for as one unknown, with one residual for each example; `function` then takes
            and returns such a structure.
          args: a list or tuple of tensors, or of lists and dictionaries of them; `function` is
            called as `function(h, *args)`. Other tensors and variables that it uses get gradients,
            too, except in the body of a `tf.while_loop`, `tf.map_fn` or `tf.cond`. If it has an
            attribute `linearise(h, *args)`, which returns `(F(h), vjp)`, that is used in place of
            a tape, unless h or args are lists or dictionaries.

        Returns:
          A `Solution`, its `value` of the shape, or structure, of x.

        Raises:
          ValueError: in such a body, if `function` uses more than `args`; if it changes the shape,
            dtype or structure of x; or if one of the arguments is not what it should be.
          tf.errors.InvalidArgumentError: if a solve does not converge and `on_failure` is "raise".
        """
        function, x, args, restore = flattened(function, x, args)
        solution = self._solve(function, x, args)
        value = checked(solution, "A fixed point", self.on_failure)
        return restore(solution._replace(value=value))

    def solve(self, function, x, args=()):
        """As `__call__`, but without `on_failure` for the value: look at `Solution.converged`."""
        function, x, args, restore = flattened(function, x, args)
        return restore(self._solve(function, x, args))

    def _solve(self, function, x, args):
        solution, found = solved(self.solver, function, x, args)
        if found and type(tf.compat.v1.get_default_graph()).__name__ in _BODIES:
            raise ValueError("`args` must be all that `function` uses, in the body of a loop or of "
                             f"a conditional. Received: a function that uses {found} besides")
        value = _attach(_Equation(function, len(args)), solution.value, [*args, *found],
                        self.adjoint, self.on_failure, _only_attached)
        return solution._replace(value=value)


class _Equation:
    """`(h, *sources) -> F(h)` and its linearisation; F is given the first `count` sources."""

    def __init__(self, function, count):
        self.function, self.count = function, count

    def __call__(self, h, *sources):
        return self.function(h, *sources[:self.count])

    def linearise(self, h, *sources):
        """`(F(h), vjp)` with `vjp(u) = u^T dF/dh`, for any number of u."""
        if hasattr(self.function, "linearise"):
            return self.function.linearise(h, *sources[:self.count])
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(h)
            y = self(h, *sources)
        return y, lambda u: tape.gradient(y, h, u, unconnected_gradients="zero")

    def adjoint(self):
        """`(z, b, h, *sources) -> J^T z + b`, J at h."""
        def step(z, b, h, *sources):
            return self.linearise(h, *sources)[1](z) + b

        return _Equation(step, 2 + self.count)


def _attach(equation, value, sources, adjoint, on_failure, output=tf.identity):
    """`value`, a fixed point found elsewhere, with the derivatives of one."""
    value = tf.stop_gradient(value)

    def backward(given, b):
        b, count = tf.convert_to_tensor(b), equation.count
        # Those that F is given, as tensors of the graph that is being built now.
        own = [tf.identity(s) for s in given[:count]] + sources[count:]
        # The solution once more, as a function of all that F uses: for gradients of gradients.
        h = _attach(equation, value, own, adjoint, on_failure)

        def solve():
            vjp = equation.linearise(h, *own)[1]
            return adjoint(vjp, b, lambda v: _transposed(vjp, h, v))

        solution = hidden(solve) if is_followed(map(_handle, [b, h, *own])) else solve()
        z = checked(solution, "The adjoint solve of a fixed point",
                    "ignore" if adjoint.approximate else on_failure, cause=_SINGULAR,
                    limit=LINEAR_LIMIT)
        z = _attach(equation.adjoint(), z, [b, h, *own], adjoint, on_failure)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(own)
            y = equation(h, *own)
        gradients = tape.gradient(y, own, z, unconnected_gradients="zero")
        return [tf.convert_to_tensor(d) for d in gradients]

    if not sources:
        return value
    return with_gradient(lambda *_: [output(value)], backward, sources)[0]


def _only_attached(value):
    """The value, of which nothing is differentiated but what is attached to it.

    `tf.vectorized_map`, and forward mode around a graph, drop custom gradients.
    """
    return tf.raw_ops.PreventGradient(input=value, message=OUTSIDE)


def solved(solver, function, x, args):
    """`(solution, found)`, whose steps no tape keeps; found: what F uses besides x and args."""
    def solve(x):
        return tf.nest.map_structure(tf.stop_gradient, solver(lambda h: function(h, *args), x))

    spec = tf.TensorSpec(x.shape, x.dtype)
    used = _used(lambda h: function(h, *args), spec) if record.could_possibly_record() else []
    if is_followed(map(_handle, [*args, *used])):
        solution = hidden(lambda: solve(x))
    else:
        traced = tf.function(solve, autograph=False).get_concrete_function(spec)
        solution, used = traced(x), [*traced.captured_inputs, *traced.variables]
    return solution, [s for s in used if (s.dtype.is_floating or s.dtype.is_complex)
                      and not any(s is a for a in args)]


def _used(function, spec):
    """Tensors and variables that a function of one tensor uses besides."""
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    return [*traced.captured_inputs, *traced.variables]


def _handle(x):
    return x.handle if isinstance(x, tf.Variable) else x


def checked(solution, what, on_failure, **why):
    """`solution.value`, once `on_failure` has been done if not all examples are converged.

    Args:
      solution, what, **why: see `require_converged`.
      on_failure: see `Implicit`.
    """
    if on_failure == "raise":
        return require_converged(solution, what, **why)
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


def check_solver(solver):
    check_kind("solver", solver, "be a fixed-point solver of tfresflow.solvers", FixedPointSolver)


def check_policy(on_failure):
    if on_failure not in _POLICIES:
        raise ValueError(f"`on_failure` must be one of {_POLICIES}. "
                         f"Received: on_failure={on_failure!r}")
