"""The steps of a flow as the steps of a sampler, which goes along the flow or against it.

    .value(x, rows) -> y
    .back(y, rows) -> x
    .score(x, y, rows, s) -> (score at y, log_det)       s is the score of the density of x
    .push(x, rows, s) -> (y, score at y, log_det)        value and score at once
    .pull(x, y, rows, dy) -> (dx, dweights)              of a loss of y alone
    .pull_all(x, y, rows, dy, dlog_det) -> (dx, log_det, dweights)

The score is the derivative of a log-density. As `log q(y) = log q(x) - log_det`, it goes from x to
y as `Step.vijp` has it, with a log-determinant of weight 1. Both ends of a step are known on the
way back, so that nothing is solved twice: what is a solve on the way along a step is none on the
way against it, and the other way round. Either way needs one linear solve for a residual block.
"""

import dataclasses
import operator

import tensorflow as tf

from tfresflow.functions.inverse import Inverse
from tfresflow.functions.steps import Step
from tfresflow.functions.sweep import after

__all__ = ["Against", "Along", "against", "along"]


@dataclasses.dataclass(frozen=True)
class Along:
    """y is the value of the step at x.

    Args:
      step: a `Step`.
    """

    step: Step

    def value(self, x, rows):
        return self.step.value(x, rows)

    def back(self, y, rows):
        return self.step.solve(y, rows)

    def score(self, x, y, rows, s):
        del y
        return self.push(x, rows, s)[1:]

    def push(self, x, rows, s):
        return self.step.vijp(x, rows, s, _ones(x))[:3]

    def pull(self, x, y, rows, dy):
        del y
        return self.step.value_vjp(after(dy, x), rows, dy)

    def pull_all(self, x, y, rows, dy, dlog_det):
        del y
        return self.step.vjp(after(dy, x), rows, dy, dlog_det)


@dataclasses.dataclass(frozen=True)
class Against:
    """x is the value of the step at y.

    Args:
      step: a `Step`.
    """

    step: Step

    def value(self, x, rows):
        return self.step.solve(x, rows)

    def back(self, y, rows):
        return self.step.value(y, rows)

    def score(self, x, y, rows, s):
        del x
        score, log_det, _ = self.step.vjp(after(s, y), rows, s, _ones(y))
        return score, -log_det

    def push(self, x, rows, s):
        y = self.step.solve(x, rows)
        return y, *self.score(x, y, rows, s)

    def pull(self, x, y, rows, dy):
        del x
        dx, dweights = self.step.value_vijp(after(dy, y), rows, dy)
        return dx, list(map(operator.neg, dweights))

    def pull_all(self, x, y, rows, dy, dlog_det):
        del x
        negative = tf.nest.map_structure(operator.neg, dy)
        _, dx, log_det, dweights = self.step.vijp(after(dy, y), rows, negative, -dlog_det)
        return tf.nest.map_structure(operator.neg, dx), -log_det, dweights


def along(steps):
    """The steps as those of a sampler that goes from data to latents."""
    return [Against(step.inverted()) if isinstance(step, Inverse) else Along(step)
            for step in steps]


def against(steps):
    """The steps, the last one first, as those of a sampler that goes from latents to data."""
    inverses = [(step, step.inverted()) for step in reversed(steps)]
    return [Against(step) if inverse is None else Along(inverse) for step, inverse in inverses]


def _ones(state):
    first, *_ = tf.nest.flatten(state)
    return tf.ones(tf.shape(first)[:1], first.dtype)
