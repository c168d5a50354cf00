"""Several draws of a noisy bound of log-probabilities, as one that is tighter."""

import math

import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check_whole

__all__ = ["log_mean_exp"]


def log_mean_exp(function, seed, draws):
    """`log((1 / K) sum_k exp(function(seed_k)))`; of one draw `function(seed)` itself.

    In expectation it rises with K, and stays below the log of the mean of `exp(function)`.

    Args:
      function: `seed -> [..., N]`, nats; of a seed as `seeds.as_seed` gives it.
      seed: as for `seeds.as_seed`.
      draws: K, a whole number.

    References: Burda et al., Importance weighted autoencoders (2016), theorem 1.
    """
    check_whole("draws", draws, 1)
    seed = seeds.as_seed(seed)
    if draws == 1:
        return function(seed)
    # One after the other: as many at a time would take K times the memory.
    first = function(seeds.fold_in(seed, 0))
    _, total = tf.while_loop(
        lambda k, total: k < draws,
        lambda k, total: (k + 1, _log_add_exp(total, function(seeds.fold_in(seed, k)))),
        [tf.constant(1), first], parallel_iterations=1)
    return total - math.log(draws)


def _log_add_exp(a, b):
    """`log(exp(a) + exp(b))`, also where both are -inf."""
    return tf.reduce_logsumexp(tf.stack([a, b]), axis=0)
