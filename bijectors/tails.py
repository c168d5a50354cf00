"""Whether the random number of terms of a log-determinant has heavy tails."""

import numpy as np
import tensorflow as tf

from tfresflow import logdet
from tfresflow.batches import seeds
from tfresflow.batches.rows import norm
from tfresflow.functions.branch import as_composition
from tfresflow.functions.traced import shared
from tfresflow.logdet.terms import law_of

__all__ = ["heavy_tails"]

_TERMS = 32


def heavy_tails(flow, x, rule, seed=0, context=None):
    """Residual blocks for which draws of the number of terms are too far apart to be averaged.

    A later term of `Poisson` and `Geometric` is rare, and weighs the inverse of its probability.
    Where J is steep, terms shrink less than their weights grow, and the mean of thousands of draws
    is nothing to rely on. Here the vectors `v^T J^k` of one probe for each row are computed, and
    compared with the weights of all terms that one draw in 10,000 has.

    Args:
      flow: a flow.
      x: `[N, ...]`, a few rows of data.
      rule: the law for the number of terms, as `LogDet` takes it.
      seed: of the probes.
      context: of a conditional flow, `[N, ...]`.

    Returns:
      `{name: factor}`, the blocks named as in `flow.branches()`: how many times more the terms of a
      rare draw add to the variance than the first uncertain one. Empty where no block has a heavy
      tail, and for laws without weights, as `Adaptive` and `Bracket`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual, heavy_tails
      >>> from tfresflow import layers, logdet
      >>> kernel = keras.initializers.Identity(-0.96)             # J = -0.96 I
      >>> steep = InvertibleResidual(layers.InducedNormDense(8, kernel_initializer=kernel), [8])
      >>> list(heavy_tails(steep, tf.zeros([4, 8]), logdet.Poisson())) == [steep.name]
      True
      >>> heavy_tails(steep, tf.zeros([4, 8]), logdet.Geometric(p=0.02))
      {}
    """
    weights = law_of(rule).weights()
    if weights is None:
        return {}
    weights = weights[:_TERMS + 1][weights[:_TERMS + 1] <= 1e4]
    first = np.searchsorted(weights, 1.0, side="right")  # the first that is not certain
    listener = _Listener()
    given = {} if context is None else {"context": context}
    flow.with_log_det(listener).forward_and_log_det(x, seed, **given)
    heavy = {}
    for name, lengths in zip(flow.branches(), listener.lengths):
        added = weights * np.max(lengths[:len(weights)], axis=1) ** 2
        beyond = added[first:]
        if len(beyond) and beyond.max() > max(0.05, 4 * beyond[0]):
            heavy[name] = float(beyond.max() / beyond[0])
    return heavy


class _Listener(logdet.Estimator):
    """Keeps `|v^T J^k| / |v|` of each block, `[K + 1, N]`, in place of a log-determinant."""

    def __init__(self):
        self.lengths = []

    def odd(self):
        return self  # the lengths are the same for -J

    def __call__(self, g, x, seed=None):
        v = logdet.rademacher(x.shape, seeds.starting(seed, 0), x.dtype)
        composition, weights = as_composition(g)
        y, lengths = shared(_shrinking, composition)(x, v, weights)
        self.lengths.append(lengths.numpy())
        return y, tf.zeros_like(lengths[0])


def _shrinking(composition, x, v, weights):
    """`[g(x), lengths]`."""
    y, vjp = composition.normalized().linearise(composition.normalize(weights), x)

    def term(k, u, lengths):
        u = vjp(u)
        return k + 1, u, lengths.write(k, norm(u))

    lengths = tf.TensorArray(x.dtype, _TERMS + 1).write(0, norm(v))
    *_, lengths = tf.while_loop(lambda k, *_: k <= _TERMS, term, (tf.constant(1), v, lengths))
    return [y, tf.math.divide_no_nan(lengths.stack(), norm(v))]
