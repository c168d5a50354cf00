"""The negative log-likelihood of each example, with the bounds of its log-determinants."""

import functools
import math
import time

import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from train.build import is_exact
from train.status import duration

__all__ = ["scorer"]

_STREAM = 7_000_000  # seeds of evaluation, apart from those of training
_SECONDS = 10  # between two lines that say how far it is


def scorer(model, settings, source):
    """A function that scores batches, and says each 10 seconds how far it is.

    Args:
      model: a `FlowModel`.
      settings: `Settings`; --exact, --tolerance, --eval_probes and --eval_draws are looked at.
      source: the `Source` of the model's own data.

    Returns:
      `(batches, count) -> (nll, half)`, where count is the number of batches; float64
      `[draws, n]`, nats: one row for each draw of probes, and half of the width of the proven
      bounds, infinite where there are none.
    """
    exact = is_exact(settings, source)
    of_noise = settings.eval_draws if model.flow.nbits else 1
    score = _score(model, exact or settings.tolerance > 0, of_noise)
    draws = 1 if exact else settings.eval_probes
    return lambda batches, count: _scored(score, batches, draws, draws * count, settings.seed)


def _scored(score, batches, draws, passes, seed):
    rows, first = [[] for _ in range(draws)], None
    due = time.monotonic() + _SECONDS
    for i, x in enumerate(batches):
        for r in range(draws):
            place = tf.constant(_STREAM + draws * i + r)
            rows[r].append(np.stack(score(x, seeds.fold_in(seeds.as_seed(seed), place))))
            done, now = draws * i + r + 1, time.monotonic()
            first = now if done == 1 else first  # that also had to be traced
            if now > due:
                each, due = (now - first) / max(done - 1, 1), now + _SECONDS
                left = f"  {duration((passes - done) * each)} left" if done > 1 else ""
                print(f"evaluated {done} of {passes} batches{left}", flush=True)
    found = np.stack([np.concatenate(row, axis=1) for row in rows]).astype(np.float64)
    return found[:, 0], found[:, 1]


def _score(model, bounded, draws):
    @functools.partial(tf.function, reduce_retracing=True, autograph=False)
    def score(x, seed):
        if not bounded:
            nll = -model.log_prob(x, seed, draws=draws)
            return nll, tf.fill(tf.shape(nll), tf.constant(math.inf, nll.dtype))
        lower, upper = model.log_prob_bounds(x, seed, draws=draws)
        return -0.5 * (lower + upper), 0.5 * (upper - lower)

    return score
