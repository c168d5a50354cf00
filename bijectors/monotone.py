"""The monotone block: the Cayley operator of a contraction."""

import math

import keras

from bijectors.base import Flow
from bijectors.residual import CAUSE, InvertibleResidual, fixed_point, in_rows
from tfresflow import logdet, solvers
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.branch import At, functionalize
from tfresflow.functions.negative import Negative
from tfresflow.functions.steps import Step, of_state, say_together
from tfresflow.logdet.base import check_estimator, odd

__all__ = ["Monotone"]

_ROOT = math.sqrt(2)


@keras.saving.register_keras_serializable("bijectors")
class Monotone(Flow):
    """`x = (w + g(w)) / sqrt(2)`, `z = (w - g(w)) / sqrt(2)`, `Lip(g) <= L < 1`.

    The slopes of `x -> z` are between `(1 - L) / (1 + L)` and `(1 + L) / (1 - L)`, those of
    `x + g(x)` between `1 - L` and `1 + L`: a block of the same branch bends data more, in both
    directions alike. At a point,

        dz/dx = (I - J) (I + J)^-1,   J = dg/dw

    Forward costs a fixed point, `w <- sqrt(2) x - g(w)`, and, for the log-determinant, what that of
    a residual block costs: `-2 sum_{k odd} tr(J^k) / k`. Its gradient costs one linear solve with
    `I + J^T`. Between the passes of training w is kept, in place of x. The inverse is the forward
    pass with -g in place of g, and costs the same. If a solve does not converge,
    `tf.errors.InvalidArgumentError` is raised.

    Args:
      branch: g, as for `InvertibleResidual`.
      event_shape: shape of one x.
      log_det: as for `InvertibleResidual`; a function (g, x, seed) is called for g and for -g.
      solver: fixed-point solver of `tfresflow.solvers`; default `Anderson()`.
      adjoint: linear solver of `tfresflow.solvers` for the gradients; default as for
        `InvertibleResidual`.
      name: of the block.

    Raises:
      ValueError: see `InvertibleResidual`.

    Warns:
      UserWarning: see `InvertibleResidual`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import Monotone
      >>> from tfresflow import layers
      >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
      >>> block = Monotone(g, event_shape=[2])                    # z = x / 3
      >>> z, log_det = block.forward_and_log_det([[3., 6.]], seed=0)
      >>> z.numpy().round(3).tolist(), round(float(log_det[0]), 3)          # -2 log 3
      ([[1.0, 2.0]], -2.197)
      >>> block.inverse(z).numpy().round(3).tolist()
      [[3.0, 6.0]]

    References: Ahn et al., Invertible Monotone Operators for Normalizing Flows (2022).
    """

    def __init__(self, branch, event_shape, log_det=None, solver=None, adjoint=None,
                 name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        check_estimator("log_det", log_det)
        log_det = logdet.LogDet() if log_det is None else log_det
        # w -> w + g(w), of which the solution is asked for, with the log-determinant of x -> z.
        self._residual = InvertibleResidual(branch, event_shape, odd(log_det), solver, adjoint,
                                            name or "monotone")
        super().__init__(event_shape, layers=[branch], parameters=parameters,
                         context_shape=self._residual.context_shape, name=name)
        self.branch, self.log_det, self._chosen = branch, log_det, adjoint
        self.solver, self.adjoint = self._residual.solver, self._residual.adjoint
        self._root = solvers.Implicit(self.solver, self.adjoint)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "bind", "inverse_alone", "solve", by=Flow)

    @property
    def lipschitz(self):
        """See `InvertibleResidual.lipschitz`: a bound of Lip(g)."""
        return self._residual.lipschitz

    def forward_and_log_det(self, x, seed=None, **context):
        w = self._middle(x, **context)
        return _ROOT * w - x, self._residual.forward_and_log_det(w, seed, **context)[1]

    def bind(self, seed=None, size=None, dtype=None):
        residual = self._residual.bind(seed, size, dtype or self._float)
        kind, middles = _Cayley, [self._middle, self._middle_of_latent, self._of_negated]
        if self.context_shape is not None:
            kind, middles = _ConditionalCayley, list(map(of_state, middles))
        *middles, of_negated = middles
        negated = residual.negated(of_negated) if hasattr(residual, "negated") else None
        return kind(residual, negated, *middles)

    def inverse_and_log_det(self, z, seed=None, **context):
        x = self.inverse_alone(z, **context)
        w = (x + z) / _ROOT
        return x, -self._residual.forward_and_log_det(w, seed, **context)[1]

    def inverse_alone(self, z, **context):
        return solvers.require_converged(self.solve(z, **context),
                                         f"The inverse of {self.name}", CAUSE)

    def solve(self, z, *, context=None):
        """The inverse as a `Solution`: value, steps, residual and convergence of each example.

        The residual is that of `w = sqrt(2) z + g(w)`, of which the value is `sqrt(2) w - z`. No
        error is raised if an example is not converged: its value, and its gradient, are wrong.

        Args:
          z: `[N, ...]`.
          context: `[N, ...]`, of a conditional block.

        Returns:
          A `solvers.Solution`.

        Example:
          >>> import keras
          >>> from bijectors import Monotone
          >>> from tfresflow import layers
          >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
          >>> solution = Monotone(g, [2]).solve([[1., 2.]])                 # z = x / 3
          >>> solution.value.numpy().round(3).tolist(), solution.converged.numpy().tolist()
          ([[3.0, 6.0]], [True])
        """
        solution = self._solution(Negative, z, context=context)
        return solution._replace(value=_ROOT * solution.value - z)

    def _middle(self, x, rows=None, *, context=None):
        """w of x; differentiable unless it is solved for in chunks, as `rows` say."""
        return solvers.require_converged(self._solution(lambda g: g, x, rows, context),
                                         f"The forward pass of {self.name}", CAUSE)

    def _middle_of_latent(self, z, rows=None, *, context=None):
        """The same w, of z."""
        return solvers.require_converged(self._solution(Negative, z, rows, context),
                                         f"The inverse of {self.name}", CAUSE)

    def _of_negated(self, y, rows=None, *, context=None):
        """w of `y = w - g(w)`."""
        return self._middle_of_latent(y / _ROOT, rows, context=context)

    def _solution(self, signed, x, rows=None, context=None):
        """That of `w + signed(g)(w) = sqrt(2) x`."""
        g, weights = functionalize(self.branch if context is None else At(self.branch, context))
        return fixed_point(self._root, signed(g), weights, _ROOT * x, rows)

    def with_log_det(self, log_det):
        return Monotone(self.branch, self.event_shape, log_det, self.solver, self._chosen,
                        self.name)

    def branches(self):
        return {self.name: self.branch}

    def start(self, x, weights, context=None):
        def forward(x, **context):
            return _ROOT * self._middle(x, **context) - x

        return in_rows(forward, x, weights, context)

    def start_inverse(self, z, weights, context=None):
        return in_rows(self.inverse_alone, z, weights, context)


class _Cayley(Step):
    """`x -> z`, from the step `w -> w + g(w)` whose log-determinant is that of `x -> z`.

    As `z = sqrt(2) w - x` and w is the inverse of that step at `sqrt(2) x`, its `vijp` is the
    derivative, see `tfresflow.functions.inverse`. The step `z -> x` is that of -g, with the same w.

    Args:
      residual: the step.
      negated: `w -> w - g(w)`, with the log-determinant of `z -> x`; None, if it is not known.
      middle, middle_of_latent: `x -> w`, `z -> w`; of a tensor, and of `Rows` or nothing.
    """

    is_light = True  # w is of the size of x, which is not kept: nothing has to be solved twice

    def __init__(self, residual, negated, middle, middle_of_latent):
        self._residual, self._negated = residual, negated
        self._middle, self._middle_of_latent = middle, middle_of_latent
        self.weights = residual.weights

    def value(self, x, rows):
        return self._combined(self._middle(x, rows), x)

    def linearise(self, x, rows):
        w = self._middle(x, rows)

        def pull(dz, dlog_det):
            _, dw, log_det, dweights = self._residual.vijp(w, rows, self._scaled(dz), -dlog_det)
            return self._combined(dw, dz), log_det, [-d for d in dweights]

        return self._combined(w, x), pull

    def vijp(self, x, rows, dx, dlog_det):
        if self._negated is None:
            return super().vijp(x, rows, dx, dlog_det)
        w = self._middle(x, rows)
        _, dw, log_det, dweights = self._negated.vijp(w, rows, self._scaled(dx), -dlog_det)
        return self._combined(w, x), self._combined(dw, dx), -log_det, dweights

    def inverse(self, z):
        return self._combined(self._middle_of_latent(z), z)

    def solve(self, z, rows):
        return self._combined(self._middle_of_latent(z, rows), z)

    def inverted(self):
        if self._negated is None:
            return None
        return type(self)(self._negated, self._residual, self._middle_of_latent, self._middle)

    def bounds(self, x, rows):
        w = self._middle(x, rows)
        return self._combined(w, x), *self._residual.bounds(w, rows)[1:]

    def _scaled(self, dz):
        return _ROOT * dz

    def _combined(self, w, x):
        """`sqrt(2) w - x`."""
        return _ROOT * w - x


class _ConditionalCayley(_Cayley):
    """The same of `(x, context)`: the residual step has the derivative by the context."""

    def _scaled(self, dz):
        dz, dcontext = dz
        return _ROOT * dz, dcontext

    def _combined(self, w, x):
        (w, context), (x, _) = w, x
        return _ROOT * w - x, context
