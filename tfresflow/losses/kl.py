"""Kullback-Leibler divergences from, or to, a density that is known up to a constant."""

import dataclasses
import functools
import typing

import keras
import tensorflow as tf

from tfresflow.checks.rules import check, check_kind
from tfresflow.losses.path import DropIn, Path, Standard
from tfresflow.losses.ways import against, along
from tfresflow.saving.configurable import Configurable
from tfresflow.targets import Target, as_target

__all__ = ["Divergence", "ForwardKL", "ReverseKL"]


@dataclasses.dataclass(frozen=True)
class Divergence(Configurable):
    """Base of the divergences between a flow's density q and a target p.

    Args:
      target: one of `tfresflow.targets`, or what `targets.as_target` makes one of: a distribution,
        or a pinned joint distribution, of TensorFlow Probability.
      gradient: `Path()`, `Standard()` or `DropIn()`.

    Raises:
      ValueError: if an argument is not what it should be.
    """

    target: typing.Any
    gradient: Path | Standard | DropIn = Path()

    begins_with_base = True

    def __post_init__(self):
        object.__setattr__(self, "target", as_target(self.target))
        check_kind("gradient", self.gradient, "be `Path()`, `Standard()` or `DropIn()` of "
                   "tfresflow.losses", (Path, Standard, DropIn))

    def check(self, flow, base):
        """Raises `ValueError` if a flow with its base cannot be trained by this loss."""
        check(getattr(flow, "context_shape", None) is None, "flow",
              f"take no context for {type(self).__name__}", flow.name)
        event = getattr(flow, "event_shape", None)
        check(event is None or tuple(event) == tuple(self.target.event_shape), "target",
              f"be of the flow's event_shape {None if event is None else tuple(event)}",
              tuple(self.target.event_shape))
        trained = [v.name for v in getattr(base, "trainable_variables", ())]
        check(not (trained and self.begins_with_base), "base",
              f"have no trainable variables for {type(self).__name__}, whose samples begin there",
              trained)

    def sampled(self, steps, x, rows, weights, base, end):
        """`path.Sampled`: losses `[n]` and their derivatives.

        Args:
          steps: of the flow, see `functions/steps.py`; their derivatives come in this order.
          x: latents, or data, `[n, ...]`.
          rows: `Rows`.
          weights: `[n]`.
          base: the distribution of latents.
          end: `(log_prob, y) -> (its value [n], its derivative, others)`.
        """
        start, last = self._densities(base)
        found = self.gradient(self._ways(steps), x, rows, weights,
                              functools.partial(_with_gradient, start),
                              functools.partial(end, last))
        return found if not self.begins_with_base else found._replace(
            dweights=found.dweights[::-1])

    def effective_size(self, losses):
        """The effective sample size of a batch, as a part of it: in (0, 1]."""
        raise NotImplementedError(f"{type(self).__name__}.effective_size")


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class ReverseKL(Divergence):
    """`E[log q(x) - log p(x)]`, x sampled by the flow: KL(q || p) - log Z, never below -log Z.

    For sampling from a density that is known up to a constant: `fit` takes no data. A loss of
    `FlowModel`: `compile(optimizer, loss=ReverseKL(target))`, then
    `fit(batch_size=256, steps_per_epoch=100, epochs=10)`.

    A flow that was made to be fitted to data samples by solving; `bijectors.Inverted(flow)` samples
    by evaluating it. Mode-seeking: begin by maximum likelihood where samples of p are at hand.

    The metric `ess` is `(sum w)^2 / (N sum w^2)`, `w = p(x) / q(x)`, the mean over steps of that of
    a batch. It knows nothing of modes that the flow has not met.

    Args:
      target: p, as in `Divergence`.
      gradient: `Path()`, `Standard()` or `DropIn()`.

    Raises:
      ValueError: if an argument is not what it should be.

    Example:
      >>> from bijectors import Inverted, flows
      >>> from tfresflow import FlowModel, losses, targets
      >>> model = FlowModel(Inverted(flows.toy_flow(nblocks=1, dims=4, actnorm=False)))
      >>> model.compile("adam", loss=losses.ReverseKL(targets.Funnel(2)))
      >>> history = model.fit(batch_size=16, steps_per_epoch=2, verbose=0)
      >>> sorted(history.history)
      ['ess', 'loss']

    References: Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows
    (2024); Noe et al., Boltzmann generators (2019).
    """

    def draw(self, base, n, seed):
        """`[n, ...]`, where the samples begin: latents."""
        return base.sample(n, seed=seed)

    def losses(self, flow, base, z, seed):
        """`[N]`, with the estimator that the flow has; no gradient is found."""
        x, log_det = flow.inverse_and_log_det(z, seed)
        return base.log_prob(z) - log_det - self.target.log_prob(x)

    def effective_size(self, losses):
        return effective_size(-losses)

    def _densities(self, base):
        return base.log_prob, self.target.log_prob

    def _ways(self, steps):
        return against(steps)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class ForwardKL(Divergence):
    """`E[log p(x) - log q(x)]`, x samples of p: KL(p || q) + log Z.

    With `Standard()` it is maximum likelihood. With `Path()` the force `grad log p` counts, too,
    which says more of p than the samples do: few of them are not learned by heart.

    A loss of `FlowModel`: `compile(optimizer, loss=ForwardKL(target))`, then `fit(x)`; without x
    samples are drawn of a target that can be sampled.

    The metric `ess` is `1 / (mean(w) mean(1 / w))`, `w = p(x) / q(x)`, the mean over steps of that
    of a batch: it sees modes of p that the flow has not.

    Args:
      target: p, as in `Divergence`.
      gradient: `Path()`, `Standard()` or `DropIn()`.

    Raises:
      ValueError: if an argument is not what it should be.

    Example:
      >>> from bijectors import flows
      >>> from tfresflow import FlowModel, losses, targets
      >>> target = targets.Funnel(2)
      >>> model = FlowModel(flows.toy_flow(nblocks=1, dims=4))
      >>> model.compile("adam", loss=losses.ForwardKL(target))
      >>> history = model.fit(target.sample(64, seed=0), verbose=0)
      >>> sorted(history.history)
      ['ess', 'loss']

    References: Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows
    (2024), section 4.
    """

    begins_with_base = False

    def draw(self, base, n, seed):
        """`[n, ...]`, where the samples begin: data."""
        check(hasattr(self.target, "sample"), "x", "be samples of a target that has no `sample`",
              None)
        dtype = {"dtype": base.dtype} if isinstance(self.target, Target) else {}
        return self.target.sample(n, seed=seed, **dtype)

    def losses(self, flow, base, x, seed):
        """`[N]`, with the estimator that the flow has; no gradient is found."""
        z, log_det = flow.forward_and_log_det(x, seed)
        return self.target.log_prob(x) - base.log_prob(z) - log_det

    def effective_size(self, losses):
        inverse = tf.reduce_logsumexp(losses) + tf.reduce_logsumexp(-losses)
        return tf.exp(2 * tf.math.log(_count(losses)) - inverse)

    def _densities(self, base):
        return self.target.log_prob, base.log_prob

    def _ways(self, steps):
        return along(steps)


def effective_size(log_weights):
    """`(sum w)^2 / (N sum w^2)` of `log w`, `[N]`: the part of a sample that counts, in (0, 1]."""
    squared = 2 * tf.reduce_logsumexp(log_weights) - tf.reduce_logsumexp(2 * log_weights)
    return tf.exp(squared - tf.math.log(_count(log_weights)))


def _count(losses):
    return tf.cast(tf.size(losses), losses.dtype)


def _with_gradient(log_prob, x):
    """`(log_prob(x), its derivative)`, that of each row by this row."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value = log_prob(x)
    return value, tape.gradient(value, x, unconnected_gradients="zero")
