"""Norms between other orders than 2, with a proven upper bound beside the estimate."""

import dataclasses
import typing

import tensorflow as tf

from tfresflow.layers.bounds import quick_bound
from tfresflow.layers.constraint import Vector
from tfresflow.layers.estimated_norm import EstimatedNorm

__all__ = ["CertifiedNorm"]

_LIMIT = 0.99  # of the upper bound, which is not as tight as the estimate


class _State(typing.NamedTuple):
    """As that of an `EstimatedNorm`; r and slack, of one layer or B of them, are `[B, ...]`."""

    kernel: tf.Tensor
    u: tf.Tensor
    v: tf.Tensor
    r: tf.Tensor
    slack: tf.Tensor
    p: tf.Tensor
    q: tf.Tensor


@dataclasses.dataclass(frozen=True)
class CertifiedNorm(EstimatedNorm):
    """`slack` times the estimate, which keeps an upper bound at most `max(coeff, 0.99)`.

        slack = max(1, bound coeff / (max(coeff, 0.99) sigma))

    The bound of `bounds.py` holds as far as power iteration for its 2-norm has converged; `r` is
    the singular vector that it has found.
    """

    State: typing.ClassVar[typing.Any] = _State

    def vectors(self, inputs, outputs):
        return [*super().vectors(inputs, outputs),
                Vector("r", (1, *inputs)), Vector("slack", (1,), "ones")]

    def sigma(self, function, state):
        return super().sigma(function, state) * tf.stop_gradient(state.slack[0])

    def update(self, function, iterate, coeff, state):
        p, q, v = state.p, state.q, state.v
        batch = tf.shape(p)[0]
        # The last start of each is the singular vector: near order 2, it leads to the maximum.
        parts = tf.reshape(v, [batch, -1, *v.shape[1:]])
        v = tf.reshape(tf.concat([parts[:, :-1], state.r[:, tf.newaxis]], 1), tf.shape(v))
        u, v, sigma = self.maximise(function, iterate, state._replace(v=v))
        by_start = tf.reshape(sigma, [batch, -1])
        best = tf.argmax(by_start, 1, tf.int32) + tf.range(batch) * tf.shape(by_start)[1]
        bound, r = quick_bound(function, iterate, state.kernel, p, q, tf.gather(v, best), state.r)
        sigma = tf.maximum(tf.reduce_max(by_start, 1), 1e-30)
        limit = max(coeff, _LIMIT)
        return u, v, r, tf.maximum(tf.ones_like(bound), bound * coeff / (limit * sigma))
