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

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable

__all__ = ["Neumann", "Series", "sum_series"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Series(Configurable):
    """The gradient of the series itself, term by term: memory grows with n."""

    def surrogate(self, vjp, v, c, w):
        """A `[N]` tensor whose gradient is that of the log-determinant."""
        return sum_series(vjp, v, c)[0]

    def differentiable(self, vjp, v, c):
        """The estimate `[N]`, which carries its own gradient."""
        return sum_series(vjp, v, c)[0]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Neumann(Configurable):
    """The gradient `E[d(w^T J v)]`, equation 9: memory does not depend on n."""

    def surrogate(self, vjp, v, c, w):
        """`w^T J v`, `[N]`: its value means nothing, its gradient is the log-determinant's."""
        return tf.add_n([_dot(vjp(w_p), v_p) for w_p, v_p in zip(w, v)]) / len(v)

    def differentiable(self, vjp, v, c):
        """The estimate `[N]` with the gradient of the surrogate."""
        log_det, w = sum_series(vjp, v, c)
        surrogate = self.surrogate(vjp, v, c, [tf.stop_gradient(w_p) for w_p in w])
        return surrogate + tf.stop_gradient(log_det - surrogate)


def sum_series(vjp, v, c):
    """The value and, for its gradient, the Neumann vectors.

    Args:
      vjp: `u -> u^T J`, `[N, ...] -> [N, ...]`.
      v: probes, each `[N, ...]`.
      c: `[n + 1]`, weights of the terms.

    Returns:
      `(log_det, w)`: the mean over the probes `[N]`, and a list of one `[N, ...]` a probe.
    """
    n = tf.shape(c)[0] - 1
    if v[0].shape.rank == 2 and v[0].shape[-1] <= 2:
        vjp = _by_matrix(vjp, v[0])

    def term(k, us, log_det, ws):
        us = [vjp(u) for u in us]
        signed = tf.cast(1 - 2 * (k % 2), c.dtype) * c[k]
        trace = tf.add_n([_dot(u, v_p) for u, v_p in zip(us, v)])
        log_det -= signed / tf.cast(k, c.dtype) * trace
        return k + 1, us, log_det, [w + signed * u for w, u in zip(ws, us)]

    state = (tf.constant(1), list(v), tf.zeros_like(_dot(v[0], v[0])), list(v))
    _, _, log_det, ws = tf.while_loop(lambda k, *_: k <= n, term, state)
    return log_det / len(v), ws


def _by_matrix(vjp, like):
    """`vjp` by the matrix J itself, `[N, D]` for small D.

    D products by g, after which a term is D^2 multiplications: less than the two terms or more
    that an unbiased series has.
    """
    rows = [vjp(tf.one_hot(tf.fill(tf.shape(like)[:1], i), like.shape[-1], dtype=like.dtype))
            for i in range(like.shape[-1])]
    return lambda u: tf.add_n([u[:, i:i + 1] * row for i, row in enumerate(rows)])


def _dot(a, b):
    """Inner product of each example: `[N, ...], [N, ...] -> [N]`."""
    return tf.reduce_sum(a * b, axis=list(range(1, a.shape.rank)))
