"""The power series of log det(I + J), its value and its two gradients.

    log det(I + J) = sum_{k>=1} (-1)^{k+1} / k tr(J^k),  tr(A) = E[v^T A v],  E[v v^T] = I

One loop serves all: `u_k = u_{k-1} J`, `u_0 = v^T`, a vector-Jacobian product a term.

    value         sum_{k=1}^{n} (-1)^{k+1} / k c_k <u_k, v>
    Neumann       w = sum_{k=0}^{n} (-1)^k c_k u_k,   d log det = E[d(w^T J v)], w constant

`Series` differentiates the loop itself, `Neumann` needs one more product and remembers
nothing of the loop. The value is the same, and is the true unbiased estimate, for both.
How the intermediate results are kept is a third choice: `memory.py`.

References: Chen et al., Residual Flows (2019), equations 3 to 9.
"""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow import seeds
from tfresflow.configurable import Configurable
from tfresflow.functional import functional
from tfresflow.logdet import coefficients as coefficients_lib
from tfresflow.logdet import memory as memory_lib

__all__ = ["LogDet", "Neumann", "Series", "normal", "rademacher"]


@keras.saving.register_keras_serializable("tfresflow")
def normal(shape, seed, dtype):
    """Probes `v ~ N(0, I)`."""
    return tf.random.stateless_normal(shape, seed, dtype=dtype)


@keras.saving.register_keras_serializable("tfresflow")
def rademacher(shape, seed, dtype):
    """Probes of independent signs: the least variance among probes with independent entries."""
    bits = tf.random.stateless_uniform(shape, seed, 0, 2, dtype=tf.int32)
    return tf.cast(2 * bits - 1, dtype)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Series(Configurable):
    """The gradient of the series itself, term by term: memory grows with n."""

    def value(self, vjp, v, c):
        """The estimate `[N]` and what a later `surrogate` needs: nothing."""
        return _sum_series(vjp, v, c)[0], []

    def surrogate(self, vjp, v, c, kept):
        """A `[N]` tensor whose gradient is the gradient of the log-determinant."""
        return _sum_series(vjp, v, c)[0]

    def differentiable(self, vjp, v, c):
        """The estimate, which carries its own gradient."""
        return _sum_series(vjp, v, c)[0]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Neumann(Configurable):
    """The gradient `E[d(w^T J v)]`, equation 9: memory does not depend on n."""

    def value(self, vjp, v, c):
        """The estimate `[N]` and the Neumann vectors `w [P, N, ...]`."""
        log_det, w = _sum_series(vjp, v, c)
        return tf.stop_gradient(log_det), [tf.stop_gradient(w)]

    def surrogate(self, vjp, v, c, kept):
        """`w^T J v`, `[N]`: its value means nothing, its gradient is the log-determinant's."""
        [w] = kept
        pairs = zip(tf.unstack(w), tf.unstack(v))
        return tf.add_n([_dot(vjp(w_p), v_p) for w_p, v_p in pairs]) / v.shape[0]

    def differentiable(self, vjp, v, c):
        """The estimate with the gradient of the surrogate."""
        log_det, kept = self.value(vjp, v, c)
        surrogate = self.surrogate(vjp, v, c, kept)
        return surrogate + tf.stop_gradient(log_det - surrogate)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class LogDet(Configurable):
    """Stochastic estimate of `log det(I + dg/dx)` together with `g(x)`.

    Costs one evaluation of g and one vector-Jacobian product a term and probe. Three
    independent choices, each an object:

    Args:
      coefficients: how many terms, how weighted: `Truncated`, `Geometric` or `Poisson`.
      gradient: `Neumann()` or `Series()`.
      memory: `Recompute()`, `Released()` or `Tape()`.
      probe: `normal` or `rademacher`, or any `probe(shape, seed, dtype)` with E[v v^T] = I.
      num_probes: probes that are averaged; they share one evaluation of g.

    Example:

    ```python
    log_det = LogDet(Poisson(rate=2., n_exact=2))
    g_x, value = log_det(branch, x, seed=0)       # [N, D], [N]
    ```
    """

    coefficients: typing.Any = coefficients_lib.Poisson()
    gradient: typing.Any = Neumann()
    memory: typing.Any = memory_lib.Recompute()
    probe: typing.Any = normal
    num_probes: int = 1

    def __post_init__(self):
        if self.num_probes < 1:
            raise ValueError("`num_probes` must be at least 1. "
                             f"Received: num_probes={self.num_probes}")

    def __call__(self, g, x, seed=None):
        """Evaluates g and the estimate.

        Args:
          g: a built Keras layer, or a function that uses no variables; keeps the shape.
          x: `[N, ...]`.
          seed: None, an integer or a `[2]` tensor. One number of terms is drawn for the
            whole batch, one probe for each example.

        Returns:
          `(g(x), log_det)`: `[N, ...]` and `[N]`, nats.
        """
        pure, weights = functional(g)
        seed = seeds.as_seed(seed)
        c = self.coefficients.draw(seeds.fold_in(seed, 0), x.dtype)
        shape = tf.concat([[self.num_probes], tf.shape(x)], axis=0)
        v = self.probe(shape, seeds.fold_in(seed, 1), x.dtype)
        v = tf.ensure_shape(v, [self.num_probes, *x.shape])
        return self.memory(pure, weights, x, v, c, self.gradient)


def _sum_series(vjp, v, c):
    """The value, averaged over the probes, `[N]`, and the Neumann vectors `[P, N, ...]`."""
    n = tf.shape(c)[0] - 1
    probes = tf.unstack(v)

    def term(k, us, log_det, ws):
        us = [vjp(u) for u in us]
        signed = tf.cast(1 - 2 * (k % 2), c.dtype) * c[k]
        trace = tf.add_n([_dot(u, v_p) for u, v_p in zip(us, probes)])
        log_det -= signed / tf.cast(k, c.dtype) * trace
        return k + 1, us, log_det, [w + signed * u for w, u in zip(ws, us)]

    zero = tf.zeros_like(_dot(probes[0], probes[0]))
    state = (tf.constant(1), probes, zero, probes)
    _, _, log_det, ws = tf.while_loop(lambda k, *_: k <= n, term, state)
    return log_det / len(probes), tf.stack(ws)


def _dot(a, b):
    """Inner product of each example: `[N, ...], [N, ...] -> [N]`."""
    return tf.reduce_sum(a * b, axis=list(range(1, a.shape.rank)))
