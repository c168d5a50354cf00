"""The stochastic log-determinant of a residual block, put together from its choices."""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.batches.parts import chunks_of
from tfresflow.batches.probes import orthogonal
from tfresflow.checks.rules import check, check_function, check_kind, check_object, check_whole
from tfresflow.functions.branch import as_composition, functionalize
from tfresflow.functions.traced import is_shareable, shared
from tfresflow.logdet.adaptive import Adaptive
from tfresflow.logdet.base import Estimator
from tfresflow.logdet.block import Block, PlaneBlock, bounds_of, is_in_plane
from tfresflow.logdet.conditional import with_context
from tfresflow.logdet.memory import Auto, Memory
from tfresflow.logdet.odd import Odd
from tfresflow.logdet.series import Neumann
from tfresflow.logdet.terms import Terms, law_of
from tfresflow.saving.configurable import Configurable

__all__ = ["LogDet"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class LogDet(Configurable, Estimator):
    """Stochastic estimate of `log det(I + dg/dx)` together with `g(x)`.

    Sums terms of the power series and estimates the trace in each with random vectors v, the
    probes. Costs one evaluation of g, and one vector-Jacobian product for each term and probe.

    Args:
      coefficients: how many terms, and their weights: `Adaptive`, `Poisson` or `Geometric`, which
        are unbiased, or `Truncated`.
      gradient: `Neumann()` or `Series()`; the value is the same.
      memory: what is kept for the backward pass of a `tf.GradientTape`: `Auto()`, `Recompute()`,
        `Released()` or `Tape()`. `FlowModel` uses its own `autodiff` instead.
      probe: `orthogonal`, `rademacher` or `normal`, or any `probe(shape, seed, dtype)` with
        E[v v^T] = I for each row of `shape = [N, num_probes, ...]`, made of `seeds.normal` or
        `seeds.bits` of its `seed`. Equal blocks are traced once, unless the probe, or an object
        of your own among these arguments, reads values that may change: see
        `functions.traced.is_shareable`.
      num_probes: number of probes, over which the estimate is averaged; they share one evaluation
        of g.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> W = tf.constant([[0.3, 0.2], [-0.1, 0.4]])              # g(x) = x W
      >>> estimate = logdet.LogDet(logdet.Poisson(rate=2., n_exact=2, num_samples=1000))
      >>> g_x, log_det = estimate(lambda x: x @ W, tf.zeros([10_000, 2]), seed=0)
      >>> log_det.shape, round(float(tf.reduce_mean(log_det)), 1)
      (TensorShape([10000]), 0.6)
      >>> round(float(tf.linalg.slogdet(tf.eye(2) + W)[1]), 1)    # the mean of the estimates
      0.6

    References: Chen et al., Residual Flows (2019), equation 7.
    """

    coefficients: typing.Any = Adaptive()
    gradient: typing.Any = Neumann()
    memory: typing.Any = Auto()
    probe: typing.Any = orthogonal
    num_probes: int = 1

    def __post_init__(self):
        check_object("coefficients", self.coefficients, "be `Adaptive(...)`, `Geometric(...)`, "
                     "`Poisson(...)`, `Truncated(...)`, or an object that has `draw(seed, dtype)`",
                     "draw")
        check_object("gradient", self.gradient, "be `Neumann()` or `Series()` of tfresflow.logdet",
                     "recorded", "targets")
        check_kind("memory", self.memory, "be `Auto()`, `Recompute()`, `Released()` or `Tape()` of "
                   "tfresflow.logdet", Memory)
        check_function("probe", self.probe, "be `orthogonal`, `rademacher`, `normal` or a function "
                       "(shape, seed, dtype)", 3, never=(Configurable, keras.layers.Layer))
        check_whole("num_probes", self.num_probes, 1)
        check(self.law.has_terms or getattr(self.gradient, "is_form", False), "gradient",
              f"be `Neumann()` with {type(self.coefficients).__name__}, which is no sum of terms",
              self.gradient)

    def __call__(self, g, x, seed=None):
        """Evaluates g and the estimate.

        Args:
          g: a built Keras layer, or a function that uses no variables; g(x) has the shape of x.
          x: `[N, ...]`.
          seed: an integer, a `[2]` tensor or a `seeds.Part`; None: another at each call. The number
            of terms is drawn once for the whole batch, the probes for each example.

        Returns:
          `(g(x), log_det)`: `[N, ...]` and `[N]`, nats.
        """
        x = tf.convert_to_tensor(x)
        g, weights = as_composition(g)
        return shared(_estimate, self, g)(x, *_parts(seed), weights)

    def bounds(self, g, x, seed=None):
        """Evaluates g and, in place of the estimate, bounds of what it is for these probes.

        Args:
          g, x, seed: see `__call__`.

        Returns:
          `(g(x), lower, upper)`: `[N, ...]` and twice `[N]`, nats; infinite but for `Bracket`.
        """
        x = tf.convert_to_tensor(x)
        g, weights = functionalize(g)
        seed, first = _parts(seed)
        return tuple(shared(bounds_of, self, g, chunks_of(g, weights, x))(
            x, self.draw_terms(seed, x.dtype), seed, first, weights))

    def in_block(self, floor):
        """The same estimator for a residual block, see `terms.Law.in_block`."""
        law = self.law
        own = law.in_block(floor)
        return self if own is law else dataclasses.replace(self, coefficients=own)

    def odd(self):
        return dataclasses.replace(self, coefficients=Odd(self.law.halved()))

    def bind(self, g, seed, spec, inverse, adjoint):
        """The step `x -> x + g(x)` of a flow: norms are applied and the number of terms drawn.

        Args:
          g, seed: see `__call__`; if g takes a context, the step is of `(x, context)`.
          spec: `tf.TensorSpec` of x; the number of examples may be None.
          inverse: of the step, `z -> x`.
          adjoint: a linear solver, of tfresflow.solvers, that raises where it does not converge.

        Returns:
          A `Step`: a `Block`.
        """
        function, weights = functionalize(g)
        seed, first = _parts(seed)
        kind, shape = Block, None
        if is_in_plane(self, spec):
            kind, shape = PlaneBlock, tuple(spec.shape)
        # No part of a function that is differentiated: TensorFlow would optimise the gradient of
        # each block by itself, for the zeros that belong to these.
        drawn, *more = shared(_draws, self, spec.dtype, shape)(seed, first)
        return with_context(
            kind(self, function, weights, inverse, adjoint, spec, drawn, seed, first, *more), g)

    def draw_probes(self, x, seed, first):
        """Probes, each `[N, ...]` as x, of which shape and dtype count."""
        n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        shape = [self.num_probes, *x.shape[1:]]
        v = self.probe([n, *shape], seeds.Part(seeds.split(seed, 2)[1], first), x.dtype)
        return tuple(tf.unstack(tf.ensure_shape(v, [x.shape[0], *shape]), axis=1))

    def draw_terms(self, seed, dtype):
        """What the law for the number of terms draws, a tensor: most draw weights of the terms."""
        return self.law.draw(seeds.split(seed, 2)[0], dtype)

    def terms(self, drawn):
        """The `Terms` of what `draw_terms` returned."""
        return Terms(self.law, drawn)

    @property
    def law(self):
        """`coefficients`, as a `terms.Law`."""
        return law_of(self.coefficients)

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return all(map(is_shareable, (self.coefficients, self.gradient, self.memory, self.probe)))


def _estimate(log_det, g, x, seed, first, weights):
    """All of a block in one function: a flow of equal blocks is traced as calls of it."""
    v, drawn = log_det.draw_probes(x, seed, first), log_det.draw_terms(seed, x.dtype)
    return log_det.memory(g.normalized(), g.normalize(weights), x, v, log_det.terms(drawn),
                          log_det.gradient)


def _draws(log_det, dtype, shape, seed, first):
    """`[drawn, *more]`: what all parts of a batch share."""
    drawn = log_det.draw_terms(seed, dtype)
    if shape is None:
        return [drawn]
    [v] = log_det.draw_probes(tf.TensorSpec(shape, dtype), seed, first)
    return [drawn, log_det.law.prepare(drawn), v]


def _parts(seed):
    """The tensors of a `seeds.Part`."""
    seed = seeds.as_seed(seed)
    part = seed if isinstance(seed, seeds.Part) else seeds.Part(seed)
    return part.seed, tf.convert_to_tensor(part.first, tf.int64)
