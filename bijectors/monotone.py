"""The monotone block: the Cayley operator of a contraction."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow
from bijectors.residual import CAUSE, InvertibleResidual, fixed_point
from bijectors.start import parts, some
from tfresflow import logdet, solvers
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.branch import functionalize
from tfresflow.functions.negative import Negative
from tfresflow.functions.steps import Step
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
        super().__init__(event_shape, layers=[branch], parameters=parameters, name=name)
        self.branch, self.log_det = branch, log_det
        self.solver, self.adjoint = self._residual.solver, self._residual.adjoint
        self._root = solvers.Implicit(self.solver, self.adjoint)

    @property
    def lipschitz(self):
        """See `InvertibleResidual.lipschitz`: a bound of Lip(g)."""
        return self._residual.lipschitz

    def forward_and_log_det(self, x, seed=None):
        w = self._middle(x)
        return _ROOT * w - x, self._residual.forward_and_log_det(w, seed)[1]

    def bind(self, seed=None, size=None, dtype=None):
        residual = self._residual.bind(seed, size, dtype or self._float)
        return _Cayley(residual, self._middle, self.inverse_alone)

    def inverse_and_log_det(self, z, seed=None):
        x = self.inverse_alone(z)
        w = (x + z) / _ROOT
        return x, -self._residual.forward_and_log_det(w, seed)[1]

    def inverse_alone(self, z):
        return solvers.require_converged(self.solve(z), f"The inverse of {self.name}", CAUSE)

    def solve(self, z):
        """The inverse as a `Solution`: value, steps, residual and convergence of each example.

        The residual is that of `w = sqrt(2) z + g(w)`, of which the value is `sqrt(2) w - z`. No
        error is raised if an example is not converged: its value, and its gradient, are wrong.

        Args:
          z: `[N, ...]`.

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
        g, weights = functionalize(self.branch)
        solution = fixed_point(self._root, Negative(g), weights, _ROOT * z)
        return solution._replace(value=_ROOT * solution.value - z)

    def _middle(self, x):
        """w of x, differentiable."""
        return solvers.require_converged(self._residual.solve(_ROOT * x),
                                         f"The forward pass of {self.name}", CAUSE)

    def with_log_det(self, log_det):
        return Monotone(self.branch, self.event_shape, log_det, self.solver, self.adjoint,
                        self.name)

    def branches(self):
        return {self.name: self.branch}

    def start(self, x, weights):
        x, weights = some(x, weights)
        return tf.concat([_ROOT * self._middle(part) - part for part in parts(x)], 0), weights

    def start_inverse(self, z, weights):
        z, weights = some(z, weights)
        return tf.concat([self.inverse_alone(part) for part in parts(z)], 0), weights


class _Cayley(Step):
    """`x -> z`, from the step `w -> w + g(w)` whose log-determinant is that of `x -> z`.

    As `z = sqrt(2) w - x` and w is the inverse of that step at `sqrt(2) x`, its `vijp` is the
    derivative, see `tfresflow.functions.inverse`.

    Args:
      residual: the step.
      middle: `x -> w`.
      inverse: `z -> x`.
    """

    is_light = True  # w is of the size of x, which is not kept: nothing has to be solved twice

    def __init__(self, residual, middle, inverse):
        self._residual, self._middle, self.inverse = residual, middle, inverse
        self.weights = residual.weights

    def value(self, x, rows):
        return _ROOT * self._middle(x) - x

    def linearise(self, x, rows):
        w = self._middle(x)

        def pull(dz, dlog_det):
            _, dw, log_det, dweights = self._residual.vijp(w, rows, _ROOT * dz, -dlog_det)
            return _ROOT * dw - dz, log_det, [-d for d in dweights]

        return _ROOT * w - x, pull

    def bounds(self, x, rows):
        w = self._middle(x)
        return _ROOT * w - x, *self._residual.bounds(w, rows)[1:]
