"""How many terms of the power series are summed, and with what weight.

Each class draws a vector `c = [c_0, ..., c_n, 0, ..., 0]` with `c_0 = 1`. The first `n_exact` terms
are always there and weigh 1; a later term k is there with probability
`P(N >= k - n_exact)` and weighs the inverse, so that `E[c_k] = 1` for every k
("Russian roulette", equations 6 and 7 of Chen et al. 2019). `Truncated` stops at a
fixed n instead and is biased.
"""

import dataclasses
import functools
import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check_number, check_whole
from tfresflow.logdet.terms import BITS, Law, sum_odd_series

__all__ = ["Geometric", "Poisson", "Truncated"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Truncated(Law):
    """The first n terms of the series, no more: cheap, but biased.

    The bias is at most `D L^(n+1) / (1 - L)` nats, with L = Lip(g) and D the size of one x.

    Args:
      num_terms: n, a positive integer.

    Raises:
      ValueError: if `num_terms` is not a positive integer.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x = tf.ones([1, 2])               # g(x) = x / 2: log det(I + J) = 2 log 1.5 = 0.8109
      >>> for n in (1, 2, 20):
      ...     estimate = logdet.LogDet(logdet.Truncated(n), probe=logdet.rademacher)
      ...     print(n, round(float(estimate(lambda x: x / 2, x, seed=0)[1][0]), 4))
      1 1.0
      2 0.75
      20 0.8109

    References: Chen et al., Residual Flows (2019), equation 3, cut off after n terms.
    """

    num_terms: int

    def __post_init__(self):
        check_whole("num_terms", self.num_terms, 1)

    def draw(self, seed, dtype):
        """`[num_terms + 1]` ones; `seed` is not used."""
        return tf.ones([self.num_terms + 1], dtype)

    sum_odd = staticmethod(sum_odd_series)


class _Roulette(Law):
    """What the two unbiased rules share: subclasses say `_survival`.

    N is drawn by inversion: term k is there if a random whole number below 2^53 is below
    `2^53 P(N >= k - n_exact)`, rounded to a whole number, and weighs the inverse of just that.
    So the weights are of one length, known before anything is drawn: that of the terms that
    53 random bits can reach.
    """

    def _validate(self):
        check_whole("n_exact", self.n_exact, 0)
        check_whole("num_samples", self.num_samples, 1)

    def draw(self, seed, dtype):
        """Draws the weights of one estimate.

        Args:
          seed: `[2]` integer tensor.
          dtype: of the result.

        Returns:
          `[K + 1]` tensor, `c_0 = 1`, zeros behind the last term that was drawn; K is the same at
          each draw. With several samples `c_k` is the mean over them, which is unbiased too and
          varies less.
        """
        bounds = self._bounds
        there = seeds.integers(seed, [self.num_samples, 1], BITS) < bounds
        weights = tf.constant(self.weights(), dtype)
        c = tf.where(there, weights, tf.zeros_like(weights))
        return c[0] if self.num_samples == 1 else tf.reduce_mean(c, axis=0)

    def weights(self):
        return 2.0 ** BITS / self._bounds

    sum_odd = staticmethod(sum_odd_series)

    @functools.cached_property
    def _bounds(self):
        """`2^53 P(term k is there)`, whole numbers from k = 0 up to the last that is not 0."""
        bounds = np.rint(2.0 ** BITS * self._survival()).astype("int64")
        return np.r_[np.full(self.n_exact + 1, 2 ** BITS), bounds[bounds > 0]]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Geometric(_Roulette):
    """`N ~ Geometric(p)` on {1, 2, ...}: `P(N >= j) = (1 - p)^(j - 1)`.

    N is the number of terms after the exact ones; as N >= 1, `n_exact + 1` terms are always
    computed. The variance is finite while `L^2 < 1 - p`, L = Lip(g): for L near 1 choose a small p.

    Args:
      p: probability to stop after each of these N terms, in (0, 1).
      n_exact: number of exact terms, which are always computed and have weight 1.
      num_samples: number of independent draws of N; their weights are averaged.

    Raises:
      ValueError: if `p` is not in (0, 1), `num_samples` is not positive, or `n_exact` is negative.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, seeds
      >>> c = logdet.Geometric(p=0.5, n_exact=2).draw(seeds.as_seed(0), tf.float32)
      >>> c[:4].numpy().tolist()            # c_0, the exact terms and one more, as N >= 1
      [1.0, 1.0, 1.0, 1.0]
      >>> means = logdet.Geometric(num_samples=10_000).draw(seeds.as_seed(0), tf.float32)
      >>> bool(tf.reduce_all(abs(means[:6] - 1) < 0.1))          # each has the mean 1: no bias
      True

    References: Chen et al., Residual Flows (2019), equations 6 and 7.
    """

    p: float = 0.5
    n_exact: int = 2
    num_samples: int = 1

    def __post_init__(self):
        check_number("p", self.p, "be in (0, 1)", lambda p: 0 < p < 1)
        self._validate()

    def _survival(self):
        """`P(N >= j)` for j = 1, 2, ..., as far as it counts."""
        log_go_on = math.log1p(-self.p)
        return np.exp(log_go_on * np.arange(math.ceil(-(BITS + 1) * math.log(2) / log_go_on) + 1))


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Poisson(_Roulette):
    """`N ~ Poisson(rate)` on {0, 1, ...}: `P(N >= j) = 1 - sum_{i<j} e^-rate rate^i / i!`.

    N is the number of terms after the exact ones. The variance is infinite for every L = Lip(g)
    above 0: the weights grow as factorials, and no power of L outweighs them. Where L^n_exact is
    small this is not seen. Where it is not, so for blocks that contract with L near 1, a mean of
    thousands of draws may be off by a nat and more, by many of its own standard errors: take
    `Geometric` there.

    Args:
      rate: mean of N, positive.
      n_exact: number of exact terms, which are always computed and have weight 1.
      num_samples: number of independent draws of N; their weights are averaged.

    Raises:
      ValueError: if `rate` or `num_samples` is not positive, or `n_exact` is negative.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet, seeds
      >>> c = logdet.Poisson(rate=2.0, n_exact=2).draw(seeds.as_seed(0), tf.float32)
      >>> c[:3].numpy().tolist()            # c_0, and the exact terms
      [1.0, 1.0, 1.0]
      >>> means = logdet.Poisson(num_samples=10_000).draw(seeds.as_seed(0), tf.float32)
      >>> bool(tf.reduce_all(abs(means[:6] - 1) < 0.1))          # each has the mean 1: no bias
      True

    References: Chen et al., Residual Flows (2019), equations 6 and 7.
    """

    rate: float = 2.0
    n_exact: int = 2
    num_samples: int = 1

    def __post_init__(self):
        check_number("rate", self.rate, "be positive",
                     lambda rate: 0 < rate < math.inf)
        self._validate()

    def _survival(self):
        """`P(N >= j)` for j = 1, 2, ..., as far as it counts."""
        # Summed from the end: 1 - sum would cancel to nothing at large j.
        most = math.ceil(self.rate + 12 * math.sqrt(self.rate) + 60)
        steps = math.log(self.rate) - np.log(np.arange(1, most))
        probabilities = np.exp(np.cumsum(np.r_[-self.rate, steps]))
        return np.cumsum(probabilities[::-1])[::-1][1:]
