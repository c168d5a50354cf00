"""Weights of samples, and what follows from them: expectations, log Z, how many samples count."""

import dataclasses
import math

import numpy as np

from tfresflow.checks.rules import check, check_whole
from tfresflow.importance.chain import metropolis
from tfresflow.importance.pareto import pareto_k

__all__ = ["Weighted", "as_log_weights", "effective_size", "log_mean_weight"]

_REPLICATES = 200


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Samples x of a flow's density q with weights `w = p(x) / q(x)`, p known up to a constant.

    Where the log-determinant of the flow is stochastic, so are the weights: their noise makes
    `effective_size` smaller, and log Z larger by half of its variance. `logdet.Exact` has none.

    Args:
      x: `[N, ...]`, an array.
      log_weights: `[N]`, log w, nats.
      log_q: `[N]`, log q(x), nats.

    Example:
      >>> import numpy as np
      >>> from tfresflow import importance
      >>> x = np.random.RandomState(0).normal(size=[1000, 1])          # of a normal, q
      >>> p = np.exp(-x[:, 0] ** 2 / 2)                                # Z = sqrt(2 pi)
      >>> q = p / np.sqrt(2 * np.pi)
      >>> samples = importance.Weighted(x, np.log(p / q), np.log(q))
      >>> [round(float(number), 3) for number in samples.log_z()]      # log(2 pi) / 2, its error
      [0.919, 0.0]
      >>> round(samples.effective_size, 3), samples.metropolis(seed=0).acceptance
      (1.0, 1.0)
    """

    x: np.ndarray
    log_weights: np.ndarray
    log_q: np.ndarray

    def __post_init__(self):
        log_weights = as_log_weights(self.log_weights)
        check(len(self.x) == len(log_weights) == len(self.log_q), "x",
              f"be as many as weights, {len(log_weights)}, and values of log q, {len(self.log_q)}",
              np.shape(self.x))
        object.__setattr__(self, "log_weights", log_weights)

    @property
    def effective_size(self):
        """`(sum w)^2 / (N sum w^2)`, a part of N in (0, 1]: what samples of p it is worth."""
        return effective_size(self.log_weights)

    @property
    def pareto_k(self):
        """The shape of the tail of the weights, see `pareto_k`: past 0.7 they are not reliable."""
        return pareto_k(self.log_weights)

    def log_z(self, seed=0):
        """`(estimate, standard error)` of log Z, nats, see `log_mean_weight`."""
        return log_mean_weight(self.log_weights, seed)

    def mean(self, values):
        """`(E_p[values], standard error)`, of numbers or arrays `[N, ...]`, self-normalised.

        Args:
          values: `[N, ...]`, a function of each sample.
        """
        values = np.asarray(values, np.float64)
        check(len(values) == len(self.log_weights), "values",
              f"be one for each of the {len(self.log_weights)} samples", values.shape)
        w = self.normalised.reshape(-1, *[1] * (values.ndim - 1))
        mean = (w * values).sum(axis=0)
        return mean, np.sqrt((w ** 2 * (values - mean) ** 2).sum(axis=0))

    @property
    def normalised(self):
        """`[N]`, weights that add up to 1."""
        w = np.exp(self.log_weights - self.log_weights.max())
        return w / w.sum()

    def resample(self, n, seed=0):
        """`[n, ...]`, x drawn with its weights, with replacement."""
        check_whole("n", n, 0)
        picked = np.random.default_rng(seed).choice(len(self.x), size=n, p=self.normalised)
        return self.x[picked]

    def metropolis(self, seed=0):
        """An independence Metropolis chain of these samples, a `Chain`: samples of p itself."""
        return metropolis(self.log_weights, self.x, seed)


def effective_size(log_weights):
    """`(sum w)^2 / (N sum w^2)`, a part of N in (0, 1].

    Args:
      log_weights: `[N]`, nats.

    Raises:
      ValueError: if they are not numbers, NaN, or all of weight 0.

    Example:
      >>> from tfresflow import importance
      >>> importance.effective_size([0., 0., 0., -1000.])
      0.75
    """
    log_weights = as_log_weights(log_weights)
    w = np.exp(log_weights - log_weights.max())
    return float(w.sum() ** 2 / (len(w) * (w ** 2).sum()))


def log_mean_weight(log_weights, seed=0):
    """`(log of the mean weight, standard error)`, nats: log Z, for samples of q.

    The error is that of a bootstrap. Neither knows of modes of p where no sample is.

    Args:
      log_weights: `[N]`, nats.
      seed: integer, of the bootstrap.

    Raises:
      ValueError: if they are not numbers, NaN, or all of weight 0.

    Example:
      >>> from tfresflow import importance
      >>> importance.log_mean_weight([2., 2., 2.])
      (2.0, 0.0)
    """
    log_weights = as_log_weights(log_weights)
    highest, count = log_weights.max(), len(log_weights)
    w, random = np.exp(log_weights - highest), np.random.default_rng(seed)
    means = np.array([w[random.integers(count, size=count)].mean() for _ in range(_REPLICATES)])
    # A replicate may have met no weight that counts.
    spread = np.log(np.maximum(means, np.finfo(np.float64).tiny)).std(ddof=1)
    return float(highest + math.log(w.mean())), float(spread)


def as_log_weights(log_weights):
    """`[N]`, float64, at least one; infinite ones may be of weight 0, but not all."""
    found = np.asarray(log_weights, np.float64)
    check(found.ndim == 1 and len(found) > 0, "log_weights", "be [N], at least one number",
          found.shape)
    check(not np.isnan(found).any() and found.max() < np.inf, "log_weights",
          "be numbers below infinity", found[np.isnan(found) | (found == np.inf)][:1])
    check(found.max() > -np.inf, "log_weights", "not all be -inf: no sample is where p is",
          found.max())
    return found
