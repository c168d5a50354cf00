"""Gradients of a Kullback-Leibler divergence by the way that its samples go.

A sampler y = T(x; theta), of the steps of `ways.py`, takes samples x of a density that is known to
samples of a density q. With r the density that q is compared with,

    D(theta) = E_x[log q(T(x; theta); theta) - log r(T(x; theta))]

depends on theta by way of y, and by q itself. The mean of the second derivative is zero, as that
of the derivative of any log-density under it: `Path` leaves it out. Near `q = r` nothing is left,
for every single x, while the `Standard` gradient is zero on average alone.
"""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow.batches.rows import each
from tfresflow.saving.configurable import Configurable

__all__ = ["DropIn", "Path", "Sampled", "Standard"]


class Sampled(typing.NamedTuple):
    """What a gradient gives.

    Args:
      losses: `[n]`, log q(y) - log r(y).
      dweights: for each step of the sampler the derivatives of the weighted sum of the losses.
      others: what `end` gave beside.
    """

    losses: tf.Tensor
    dweights: list
    others: typing.Any


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Path(Configurable):
    """The path gradient in one pass: the score of q goes along with the sample.

    Each step gives, with its value, the score of the density so far: one more vector-Jacobian
    product, or one linear solve, and the derivative of the log-determinant. At the end
    `d = score - grad log r(y)` is known, and `dtheta = d^T dy/dtheta`, where the log-determinant no
    longer counts. Keeps the input and the output of each step.

    With a stochastic log-determinant the score is an unbiased estimate of the true one, and so is
    the gradient; its noise does not vanish at `q = r`. `logdet.Exact` has none.

    Example:
      >>> from tfresflow import losses, targets
      >>> loss = losses.ReverseKL(targets.Funnel(2), gradient=losses.Path())

    References: Vaitl et al., Fast and Unified Path Gradient Estimators for Normalizing Flows
    (2024), algorithms 1 and 2.
    """

    def __call__(self, ways, x, rows, weights, start, end):
        """Samples, and the derivative of the weighted sum of the losses.

        Args:
          ways: the steps of the sampler, see `ways.py`.
          x: where it begins, `[n, ...]`.
          rows: `Rows`.
          weights: `[n]`, of the losses.
          start: `x -> (its log-density [n], that one's derivative)`.
          end: `y -> (log r [n], its derivative, others)`.

        Returns:
          A `Sampled`.
        """
        log_q, score = start(x)
        quiet, states = rows._replace(of_weights=False), [x]
        for way in ways:
            y, score, log_det = way.push(states[-1], quiet, score)
            states.append(y)
            log_q -= log_det
        return _along_path(ways, states, rows, weights, log_q, score, end)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class DropIn(Configurable):
    """The path gradient in two passes, as it was computed before `Path`: for comparison.

    Samples first, goes back from the sample to where it began with all weights held, and once more
    to the sample, to differentiate its log-density. Where the sampler is cheap, the way back is a
    solve. The same numbers as `Path`, to rounding and to the solvers' tolerance.

    Example:
      >>> from tfresflow import losses, targets
      >>> loss = losses.ReverseKL(targets.Funnel(2), gradient=losses.DropIn())

    References: Vaitl et al., Gradients should stay on Path (2022).
    """

    def __call__(self, ways, x, rows, weights, start, end):
        """See `Path`."""
        quiet, states = rows._replace(of_weights=False), [x]
        for way in ways:
            states.append(way.value(states[-1], rows))
        again = [tf.nest.map_structure(tf.stop_gradient, states[-1])]
        for way in reversed(ways):
            again.insert(0, way.back(again[0], rows))
        log_q, score = start(again[0])
        for way, before, y in zip(ways, again, again[1:]):
            score, log_det = way.score(before, y, quiet, score)
            log_q -= log_det
        return _along_path(ways, states, rows, weights, log_q, score, end)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Standard(Configurable):
    """The reparameterised gradient: theta counts by way of the sample and by the density.

    For `ForwardKL` it is the gradient of maximum likelihood.

    Example:
      >>> from tfresflow import losses, targets
      >>> loss = losses.ReverseKL(targets.Funnel(2), gradient=losses.Standard())
    """

    def __call__(self, ways, x, rows, weights, start, end):
        """See `Path`."""
        log_q, _ = start(x)
        states = [x]
        for way in ways:
            states.append(way.value(states[-1], rows))
        log_r, d, others = end(states[-1])
        d, dweights = each(-weights, d), []
        for way in reversed(ways):
            y = states.pop()
            d, log_det, own = way.pull_all(states[-1], y, rows, d, -weights)
            log_q -= log_det
            dweights.insert(0, own)
        return Sampled(log_q - log_r, dweights, others)


def _along_path(ways, states, rows, weights, log_q, score, end):
    """A `Sampled` by the derivative by y alone, once the score at y is known."""
    log_r, of_target, others = end(states[-1])
    d, dweights = each(weights, score - of_target), []
    for way in reversed(ways):
        y = states.pop()
        d, own = way.pull(states[-1], y, rows, d)
        dweights.insert(0, own)
    return Sampled(log_q - log_r, dweights, others)
