"""How many terms of the power series are summed, and with what weight.

Each class draws a vector `c = [c_0, ..., c_n]` with `c_0 = 1`. The first `n_exact` terms
are always there and weigh 1; a later term k is there with probability
`P(N >= k - n_exact)` and weighs the inverse, so that `E[c_k] = 1` for every k
("Russian roulette", equations 6 and 7 of Chen et al. 2019). `Truncated` stops at a
fixed n instead and is biased.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable, check_count

__all__ = ["Geometric", "Poisson", "Truncated"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Truncated(Configurable):
    """The first `num_terms` terms, no more: cheap, biased by at most L^(n+1) / (1-L) a dimension.

    Args:
      num_terms: positive integer.
    """

    num_terms: int

    def __post_init__(self):
        check_count(self, "num_terms", 1)

    def draw(self, seed, dtype):
        """`[num_terms + 1]` ones; `seed` is not used."""
        return tf.ones([self.num_terms + 1], dtype)


class _Roulette(Configurable):
    """What the two unbiased rules share: subclasses say `_sample` and `_survival`."""

    def _validate(self):
        check_count(self, "n_exact", 0)
        check_count(self, "num_samples", 1)

    def draw(self, seed, dtype):
        """Draws the weights of one estimate.

        Args:
          seed: `[2]` integer tensor.
          dtype: of the result.

        Returns:
          `[n + 1]` tensor, `n = n_exact + max_s N_s` random, `c_0 = 1`. With several
          samples `c_k` is the mean over them, which is unbiased too and varies less.
        """
        extra = self._sample(seed)
        k = tf.range(1, tf.reduce_max(extra) + 1)
        present = tf.reduce_mean(tf.cast(tf.expand_dims(k, 1) <= extra, dtype), axis=1)
        weights = present / self._survival(tf.cast(k, dtype))
        return tf.concat([tf.ones([self.n_exact + 1], dtype), weights], axis=0)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Geometric(_Roulette):
    """`N ~ Geometric(p)` on {1, 2, ...}: `P(N >= j) = (1 - p)^(j - 1)`.

    The variance is finite while `L^2 < 1 - p`, so a block near Lip(g) = 1 wants a small p.

    Args:
      p: probability to stop after a term, in (0, 1).
      n_exact: terms that are always computed.
      num_samples: independent draws of N that are averaged.
    """

    p: float = 0.5
    n_exact: int = 2
    num_samples: int = 1

    def __post_init__(self):
        _require(0 < self.p < 1, "p", "in (0, 1)", self.p)
        self._validate()

    def _sample(self, seed):
        tiny = 1e-30  # log(0) would ask for infinitely many terms
        u = tf.random.stateless_uniform([self.num_samples], seed, minval=tiny, dtype=tf.float64)
        log_stop = tf.math.log1p(tf.constant(-self.p, tf.float64))
        return 1 + tf.cast(tf.floor(tf.math.log(u) / log_stop), tf.int32)

    def _survival(self, j):
        return tf.cast(1 - self.p, j.dtype) ** (j - 1)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Poisson(_Roulette):
    """`N ~ Poisson(rate)` on {0, 1, ...}: `P(N >= j) = 1 - sum_{i<j} e^-rate rate^i / i!`.

    Args:
      rate: mean number of terms after the exact ones, positive.
      n_exact: terms that are always computed.
      num_samples: independent draws of N that are averaged.
    """

    rate: float = 2.0
    n_exact: int = 2
    num_samples: int = 1

    def __post_init__(self):
        _require(self.rate > 0, "rate", "positive", self.rate)
        self._validate()

    def _sample(self, seed):
        return tf.random.stateless_poisson([self.num_samples], seed, self.rate, tf.int32)

    def _survival(self, j):
        # P(N >= j) is the regularised lower incomplete gamma function: no 1 - sum, which
        # would cancel to nothing at large j.
        return tf.math.igamma(j, tf.cast(self.rate, j.dtype))


def _require(holds, name, rule, value):
    if not holds:
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}")
