"""What a residual block takes as `log_det`."""

import dataclasses
import functools
import math
import typing

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check_function
from tfresflow.functions.branch import At
from tfresflow.functions.conditional import context_layers
from tfresflow.functions.negative import negative
from tfresflow.functions.steps import Paired, say_together
from tfresflow.saving.configurable import Configurable

__all__ = ["Estimator", "bind", "check_estimator", "in_block", "odd"]


class Estimator:
    """Base of estimators of `log det(I + dg/dx)`; a subclass defines `__call__`.

    `bind` makes the step of a flow from it, for training.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> class FirstTerm(logdet.Estimator):                      # log det(I + J) = tr(J) - ...
      ...     def __call__(self, g, x, seed=None):
      ...         with tf.GradientTape() as tape:
      ...             tape.watch(x)
      ...             y = g(x)
      ...         return y, tf.linalg.trace(tape.batch_jacobian(y, x))
      >>> FirstTerm()(lambda x: x / 4, tf.ones([3, 2]))[1].numpy().tolist()
      [0.5, 0.5, 0.5]
    """

    # Whether the steps that `bind` makes have the whole Jacobian at hand where they solve.
    forms_jacobian = False

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "bind", "__call__", by=Estimator)
        say_together(cls, "odd", "__call__", by=Estimator)

    def __call__(self, g, x, seed=None):
        """`(g(x), log_det)`, `[N, ...]` and `[N]` nats; arguments as for `LogDet.__call__`."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def bounds(self, g, x, seed=None):
        """`(g(x), lower, upper)`, see `LogDet.bounds`: here none are known."""
        y, log_det = self(g, x, seed)
        unknown = tf.fill(tf.shape(log_det), tf.constant(math.inf, log_det.dtype))
        return y, -unknown, unknown

    def in_block(self, floor):
        """The same estimator for a residual block, see `terms.Law.in_block`."""
        del floor
        return self

    def odd(self):
        """That of `log det(I - J) - log det(I + J)`, of a monotone block; see `odd`."""
        return _Difference(self)

    def bind(self, g, seed, spec, inverse, adjoint):
        """The step `x -> x + g(x)`, see `LogDet.bind`; a tape differentiates `__call__`."""
        del spec, adjoint
        return _Estimated(self, g, inverse, seed)


class _Estimated(Paired):
    """The step of an estimator that may be any function."""

    def __init__(self, estimator, g, inverse, seed):
        takes_context = isinstance(g, keras.layers.Layer) and bool(context_layers(g))

        def of_state(estimate):
            """What an estimate gives, as a function of the state of the step."""
            def call(x, seed):
                x, *context = x if takes_context else [x]
                y, *others = estimate(At(g, *context) if takes_context else g, x, seed)
                return (x + y, *context) if takes_context else x + y, *others

            return call

        pair = of_state(estimator)
        bounds = of_state(getattr(estimator, "bounds",
                                  functools.partial(Estimator.bounds, estimator)))

        super().__init__(pair, inverse, [v.value for v in g.trainable_variables], seed)
        self._bounds, self._estimator, self._g = bounds, estimator, g

    def bounds(self, x, rows):
        return self._bounds(x, self._part(rows))

    def solve(self, z, rows):
        return self.inverse(z, rows)

    def negated(self, inverse):
        """See `Block.negated`."""
        return _Estimated(self._estimator, negative(self._g), inverse, self._seed)


@dataclasses.dataclass(frozen=True)
class _Difference(Estimator):
    """The estimate for -g less that for g, from the same seed: all that is even cancels."""

    estimator: typing.Any

    def __call__(self, g, x, seed=None):
        seed = seeds.as_seed(seed)
        y, log_det = self.estimator(g, x, seed)
        return y, self.estimator(negative(g), x, seed)[1] - log_det

    def bounds(self, g, x, seed=None):
        seed = seeds.as_seed(seed)
        known = getattr(self.estimator, "bounds", None)
        if known is None:
            return super().bounds(g, x, seed)
        y, low, high = known(g, x, seed)
        _, lower, upper = known(negative(g), x, seed)
        return y, lower - high, upper - low

    def in_block(self, floor):
        return _Difference(in_block(self.estimator, floor))


def odd(log_det):
    """The estimator of `log det(I - J) - log det(I + J)`, from one of `log det(I + J)`.

    Args:
      log_det: see `bind`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow.logdet import Exact
      >>> from tfresflow.logdet.base import odd
      >>> y, log_det = odd(Exact())(lambda x: x / 2, tf.ones([1, 2]))
      >>> round(float(log_det[0]), 4)       # 2 log((1 - 1/2) / (1 + 1/2))
      -2.1972
    """
    return log_det.odd() if hasattr(log_det, "odd") else _Difference(log_det)


def bind(log_det, *args):
    """The step `x -> x + g(x)` of a flow, with its log-determinant estimated by `log_det`.

    Args:
      log_det: an `Estimator`, or any function `(g, x, seed) -> (g(x), log_det)`.
      *args: `g, seed, spec, inverse, adjoint`, see `LogDet.bind`.

    Returns:
      A `tfresflow.functions.steps.Step`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from tfresflow import layers, logdet, seeds
      >>> from tfresflow.functions.steps import Rows
      >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
      >>> g.build([None, 2])
      >>> spec = tf.TensorSpec([1, 2], tf.float32)
      >>> step = logdet.bind(logdet.Exact(), g, seeds.as_seed(0), spec, None, None)
      >>> step.value(tf.constant([[2., 4.]]), Rows(tf.range(1))).numpy().tolist()   # x + x / 2
      [[3.0, 6.0]]
    """
    if hasattr(log_det, "bind"):
        return log_det.bind(*args)
    return Estimator.bind(log_det, *args)


def in_block(log_det, floor):
    """The estimator for a residual block all of whose singular values are above `floor`.

    Args:
      log_det: see `bind`.
      floor: a positive number, a lower bound of the singular values of I + J; None: not known.
    """
    return log_det.in_block(floor) if hasattr(log_det, "in_block") else log_det


def check_estimator(name, log_det):
    """Raises `ValueError` unless `log_det` is None, or what a residual block takes as such."""
    if log_det is None:
        return
    rule = "be `LogDet(...)` or `Exact()` of tfresflow.logdet, or a function (g, x, seed)"
    # Solvers and layers can be called with three arguments, too.
    never = () if isinstance(log_det, Estimator) else (Configurable, keras.layers.Layer)
    check_function(name, log_det, rule, 3, never)
