"""The invertible residual block."""

import dataclasses
import functools
import math
import typing
import warnings

import keras
import tensorflow as tf

from bijectors.base import Flow
from bijectors.start import parts, some
from tfresflow import logdet, solvers
from tfresflow.batches import seeds, threads, xla
from tfresflow.batches.parts import at_least, chunks_of, in_parts, side_by_side
from tfresflow.checks.precision import check_float
from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.branch import (At, as_composition, functionalize, leaf_layers,
                                        warn_of_states)
from tfresflow.functions.conditional import context_layers, context_shape
from tfresflow.functions.steps import of_state, say_together
from tfresflow.functions.traced import shared
from tfresflow.layers.orders import check_chain, lipschitz, unbounded
from tfresflow.logdet.base import check_estimator, in_block
from tfresflow.solvers.solution import LINEAR_LIMIT

__all__ = ["CAUSE", "InvertibleResidual", "fixed_point"]

CAUSE = "its branch is no contraction (`bijectors.norm_report` measures and bounds its norms)"


@keras.saving.register_keras_serializable("bijectors")
class InvertibleResidual(Flow):
    """`z = x + g(x)`, `Lip(g) < 1`.

    Forward costs one evaluation of g and, for the log-determinant, one vector-Jacobian product
    for each term. The inverse is the fixed point of `x <- z - g(x)`. Its gradient, with respect to
    z and the weights, costs one linear solve with `I + J^T`, `J = dg/dx` at the solution; its
    memory does not grow with the solver's steps. If a solve does not converge,
    `tf.errors.InvalidArgumentError` is raised.

    Args:
      branch: g, a Keras layer that keeps the shape and has a Lipschitz constant below 1: layers of
        `tfresflow.layers` in a `keras.Sequential` if all norms are 2-norms, else in a
        `layers.Branch`. It is built here if it is not built yet. With a `layers.FiLM` among them
        the block is conditional, `z = x + g(x; c)`, and its methods take `context=`.
      event_shape: shape of one x.
      log_det: `logdet.LogDet(...)` or `logdet.Exact()`; default `LogDet()`: unbiased, as
        many terms as J needs, Neumann gradient.
      solver: fixed-point solver of `tfresflow.solvers` for the inverse; default `Anderson()`.
      adjoint: linear solver of `tfresflow.solvers` for the gradient of the inverse; default
        `BiCGSTAB()`, or `Direct()` if x is one or two numbers, or where `logdet.Exact` has formed
        the matrix anyway.
      name: of the block.

    Raises:
      ValueError: if the branch changes the shape, has a Lipschitz constant of 1 or more (or no
        layer with an attribute `lipschitz`), has a layer that begins in another norm than the one
        before it ends in, or has an `activity_regularizer`.

    Warns:
      UserWarning: if a layer with weights, or a steep activation, has no attribute `lipschitz`; if
        a layer has a state, as Dropout and BatchNormalization: it works as in inference.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow.layers import InducedNormDense, LipSwish
      >>> g = keras.Sequential([InducedNormDense(8), LipSwish(), InducedNormDense(2)])
      >>> block, x = InvertibleResidual(g, event_shape=[2]), tf.ones([4, 2])
      >>> z, log_det = block.forward_and_log_det(x, seed=0)
      >>> z.shape, log_det.shape
      (TensorShape([4, 2]), TensorShape([4]))
      >>> bool(tf.reduce_all(abs(block.inverse(z) - x) < 1e-3))
      True

    References: Chen et al., Residual Flows for Invertible Generative Modeling (2019);
    Behrmann et al., Invertible Residual Networks (2019).
    """

    def __init__(self, branch, event_shape, log_det=None, solver=None, adjoint=None,
                 name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        check(isinstance(branch, keras.layers.Layer), "branch", "be a Keras layer", branch)
        check_estimator("log_det", log_det)
        if not branch.built:
            branch.build((None, *event_shape))
        output = branch.compute_output_shape((None, *event_shape))
        if tuple(output[1:]) != event_shape:
            raise ValueError("`branch` must keep the shape of its input. "
                             f"Received: {event_shape} -> {tuple(output[1:])}")
        for layer in leaf_layers([branch]):
            check_float(layer)
            check(getattr(layer, "activity_regularizer", None) is None, "branch", "have no "
                  "`activity_regularizer`, which would not be minimised", layer.name)
        check_chain([branch])
        of_context = context_shape("branch", context_layers(branch))
        super().__init__(event_shape, layers=[branch], parameters=parameters,
                         context_shape=of_context, name=name)
        self.branch = branch
        self.log_det = logdet.LogDet() if log_det is None else log_det
        self.solver = solvers.Anderson() if solver is None else solver
        default = solvers.Direct() if math.prod(event_shape) <= 2 else solvers.BiCGSTAB()
        self._chosen, self.adjoint = adjoint, default if adjoint is None else adjoint
        self._root = solvers.Implicit(self.solver, self.adjoint)
        if self.lipschitz >= 1:
            raise ValueError("`branch` must have a Lipschitz constant below 1. "
                             f"Received: {self.lipschitz}")
        warn_of_states("branch", branch)
        strangers = [layer.name for layer in unbounded(branch)]
        if strangers:
            warnings.warn("`branch` should be made of layers whose attribute `lipschitz` is their "
                          "Lipschitz constant; those without it are taken for "
                          f"contractions, and nothing keeps them so. Received: {strangers}",
                          stacklevel=2)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "inverse_in_chunks", "inverse_alone", "solve", by=Flow)

    @property
    def lipschitz(self):
        """Product of the layers' Lipschitz constants, a bound of Lip(g) if all layers have one.

        A layer without one counts as a contraction here; `norm_report` certifies no such block.
        """
        return lipschitz(self.branch)

    @functools.cached_property
    def _estimator(self):
        return in_block(self.log_det, self._floor())

    def _floor(self):
        """A number below all singular values of I + J, or None if it is not known.

        `|(I + J)^-1| <= 1 / (1 - L)` in the norm of order p in which g has the constant L, and
        `D^|1/2 - 1/p|` times that in the norm of order 2. Half of it, as the norms of layers hold
        up to the tolerance with which they are estimated.
        """
        if unbounded(self.branch) or self.lipschitz >= 1:
            return None
        orders = {order for layer in leaf_layers([self.branch]) if hasattr(layer, "fixed_orders")
                  for order in layer.fixed_orders}
        size = math.prod(self.event_shape)
        return (1 - self.lipschitz) / 2 / (1 if orders <= {2} else math.sqrt(size))

    def forward_and_log_det(self, x, seed=None, *, context=None):
        def evaluate(x, *context):
            return self._estimator(self._at(*context), x, seed), []

        rows = [x] if context is None else [x, context]
        (g_x, log_det), _ = at_least(1, evaluate, rows)
        return x + g_x, log_det

    def bind(self, seed=None, size=None, dtype=None):
        spec = tf.TensorSpec([size, *self.event_shape], dtype or self._float)
        conditional = self.context_shape is not None
        inverse = of_state(self.inverse_in_chunks) if conditional else self.inverse_in_chunks
        at_hand = self._chosen is None and getattr(self._estimator, "forms_jacobian", False)
        return logdet.bind(self._estimator, self.branch, seeds.as_seed(seed), spec, inverse,
                           _Adjoint(solvers.Direct() if at_hand else self.adjoint))

    def inverse_and_log_det(self, z, seed=None, **context):
        x = self.inverse_alone(z, **context)
        return x, -self.forward_and_log_det(x, seed, **context)[1]

    def inverse_alone(self, z, **context):
        return solvers.require_converged(self.solve(z, **context),
                                         f"The inverse of {self.name}", CAUSE)

    def inverse_in_chunks(self, z, rows=None, *, context=None):
        given = {} if context is None else {"context": context}
        if rows is None:
            return self.inverse_alone(z, **given)
        return solvers.require_converged(self._solution(z, rows, **given),
                                         f"The inverse of {self.name}", CAUSE)

    def _at(self, context=None):
        """g, as a function of x alone."""
        return self.branch if context is None else At(self.branch, context)

    def solve(self, z, *, context=None):
        """The inverse as a `Solution`: value, steps, residual and convergence of each example.

        Raises no error if an example is not converged: its value, and its gradient, are wrong.

        Args:
          z: `[N, ...]`.
          context: `[N, ...]`, of a conditional block.

        Returns:
          A `solvers.Solution`.

        Example:
          >>> import keras
          >>> from bijectors import InvertibleResidual
          >>> from tfresflow import layers
          >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
          >>> solution = InvertibleResidual(g, [2]).solve([[3., 6.]])       # z = 1.5 x
          >>> solution.value.numpy().round(3).tolist(), solution.converged.numpy().tolist()
          ([[2.0, 4.0]], [True])
        """
        return self._solution(z, context=context)

    def _solution(self, z, rows=None, context=None):
        return fixed_point(self._root, *functionalize(self._at(context)), z, rows)

    def with_log_det(self, log_det):
        return InvertibleResidual(self.branch, self.event_shape, log_det, self.solver,
                                  self._chosen, self.name)

    def branches(self):
        return {self.name: self.branch}

    def start(self, x, weights, context=None):
        # Once, and eagerly: a call of the branch would trace the norm of each of its layers.
        g, own = as_composition(self.branch)
        own, g = g.normalize(own), g.normalized()

        def forward(x, **context):
            return x + g([*own, *context.values()], x)

        return in_rows(forward, x, weights, context)

    def start_inverse(self, z, weights, context=None):
        return in_rows(self.inverse_alone, z, weights, context)


def in_rows(function, x, weights, context):
    """`(function(x), weights, context)`, of as many rows as are needed, as `Flow.start` gives it.

    Args:
      function: of x, and of `context=` where there is one.
      x, weights, context: see `Flow.start`.
    """
    x, weights, context = some(x, weights, context)
    if context is None:
        found = [function(part) for part, in parts(x)]
    else:
        found = [function(part, context=own) for part, own in parts(x, context)]
    return tf.concat(found, axis=0), weights, context


def fixed_point(root, g, weights, z, rows=None):
    """The `Solution` of `x + g(x) = z` by a `solvers.Implicit`; g a `Function` of its weights.

    In chunks of `rows.chunk_bytes`, where `rows` are given; it is not to be differentiated then.
    """
    chunks = None if rows is None else chunks_of(g, weights, z, rows.chunk_bytes)
    return solvers.Solution(*shared(_solve, root, g, threads.are_prepared(), chunks)(z, weights))


def _solve(root, g, parallel, chunks, z, weights):
    first = len(weights) - g.num_rows  # the others are cut with the batch
    own, batched = weights[:first], [z, *weights[first:]]

    def solve(z, *rows):
        return list(root.solve(_Step(g), z, [z, *own, *rows])), []

    run = side_by_side(solve) if parallel else lambda *batched: at_least(1, solve, batched)
    if chunks is None or xla.is_compiling():
        solution, _ = run(*batched)
    else:
        solution, _ = in_parts(run, batched, chunks.size, [z.shape[1:], [], [], []],
                               dtypes=[z.dtype, tf.int32, z.dtype, tf.bool])
    return tuple(solution)


@dataclasses.dataclass(frozen=True)
class _Adjoint:
    """A linear solver whose solution is there or is an error."""

    solver: typing.Any

    def __call__(self, matvec, b, adjoint):
        return solvers.require_converged(self.solver(matvec, b, adjoint),
                                         "The adjoint solve of a residual block", CAUSE,
                                         LINEAR_LIMIT)


class _Step:
    """`x -> z - g(x)`, whose fixed point is the inverse, and its linearisation by hand."""

    def __init__(self, g):
        self.g = g

    def __call__(self, x, z, *weights):
        return z - self.g(list(weights), x)

    def linearise(self, x, z, *weights):
        y, vjp = self.g.linearise(list(weights), x)
        return z - y, lambda u: -vjp(u)
