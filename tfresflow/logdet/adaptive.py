"""A number of terms that follows from the terms themselves."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check_number
from tfresflow.logdet.difference import odd
from tfresflow.logdet.series import in_basis, sum_until_small
from tfresflow.logdet.terms import BITS, Law

__all__ = ["Adaptive"]

_MOST, _DECAY = 2 ** 10, 0.99  # later terms are ever rarer, whatever J is: each sum ends


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Adaptive(Law):
    """Unbiased, and of finite variance for every contraction: terms until these are small.

    Each example has weights of its own. While the vector `u_k = v^T J^k` is longer than `threshold`
    times the probe v, the next term is certain and weighs 1. From there on it is there with a
    probability in proportion to the length of the vector, and weighs the inverse:

        P(N >= k + 1) = min(1, s_k / threshold),
        s_k = min(norm(u_0), ..., norm(u_k)) / norm(v)

    So what a term that was drawn adds is never larger than `threshold` times what the probe alone
    would: no draw is far off, as those of `Poisson` and `Geometric` may be where J is steep. Where
    J is not, there are fewer terms. The weights are constants to the gradient, whose mean is right
    as they are right at each x.

    Where J is known, on the line and in the plane, the value is exact: only the gradient depends on
    the probe.

    Args:
      threshold: a positive number below 1. The noise falls in proportion to it; each time that it
        is divided by 1 / Lip(g), there is one more term.

    Raises:
      ValueError: if `threshold` is not in (0, 1).

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x, g = tf.zeros([1000, 4]), lambda x: -0.96 * x         # steep, and contracting
      >>> for law in (logdet.Adaptive(), logdet.Poisson()):
      ...     estimate = logdet.LogDet(law, probe=logdet.rademacher)
      ...     draws = [float(estimate(g, x, seed=i)[1][0]) for i in range(100)]
      ...     print(type(law).__name__, max(draws) - min(draws) < 5)
      Adaptive True
      Poisson False

    References: Arvo and Kirk, Particle transport and image synthesis (1990), for roulette that
    looks at its path; Chen et al., Residual Flows (2019), equations 6 to 9.
    """

    threshold: float = 0.05

    def __post_init__(self):
        check_number("threshold", self.threshold, "be in (0, 1)", lambda value: 0 < value < 1)

    def draw(self, seed, dtype):
        """A random whole number in [0, 2^53): small ones go far."""
        del dtype
        return seeds.integers(seed, [], BITS)

    sum = sum_until_small

    def sum_odd(self, jacobian, v, drawn):
        return sum_until_small(self, jacobian, v, drawn, signs=odd)

    def weight(self, k, least, drawn):
        """Of term k, `[N]`, 0 where it is not there; least: `s_k` of the terms before it."""
        late = _DECAY ** tf.cast(tf.maximum(k - _MOST, 0), tf.float64)
        there = tf.minimum(tf.cast(least, tf.float64) / self.threshold, late)
        bounds = tf.cast(tf.round(2.0 ** BITS * there), tf.int64)
        weights = tf.where(drawn < bounds, 2.0 ** BITS / tf.cast(bounds, tf.float64), 0.0)
        return tf.stop_gradient(tf.cast(weights, least.dtype))

    def prepare(self, drawn):
        return drawn

    def sum_beside(self, v, product, other, prepared):
        del prepared
        a, b, c, d = in_basis(v, product, other)
        determinant = (1 + a) * (1 + d) - b * c
        first, second = (1 + d) / determinant, -b / determinant
        v0, v1 = tf.unstack(v, axis=1)
        return (tf.math.log(tf.abs(determinant)),
                tf.stack([first * v0 - second * v1, first * v1 + second * v0], axis=1))
