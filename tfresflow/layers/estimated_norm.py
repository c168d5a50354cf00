"""Norms between other orders than 2, estimated from below by power iteration."""

import dataclasses
import math
import typing

import tensorflow as tf

from tfresflow.functions.traced import shared
from tfresflow.layers.bounds import largest_columns
from tfresflow.layers.constraint import Norm, Vector
from tfresflow.layers.fingerprint import fingerprint
from tfresflow.layers.norms import PowerIteration, best_distinct, lp_norm

__all__ = ["EstimatedNorm"]

_STARTS, _TRIAL = 8, 40  # vectors that are kept of many tried for so many steps: local maxima


class _State(typing.NamedTuple):
    """Of one layer, or stacked: kernels `[B, ...]`, vectors `[B S, ...]` in turn, orders `[B]`."""

    kernel: tf.Tensor
    u: tf.Tensor
    v: tf.Tensor
    p: tf.Tensor
    q: tf.Tensor


@dataclasses.dataclass(frozen=True)
class EstimatedNorm(Norm):
    """`||W||_{p->q} = max_s <u_s, W v_s>` for orders without a closed form, fixed or learned.

    There are several local maxima, so several vectors are kept, and the largest product counts.
    That is an estimate from below. The orders are tensors of the state, so that functions are
    traced once for all of them.
    """

    State: typing.ClassVar[typing.Any] = _State

    def vectors(self, inputs, outputs):
        return [Vector("u", (_STARTS, *outputs)), Vector("v", (_STARTS, *inputs))]

    def orders(self, domain, codomain, dtype):
        return [tf.reshape(tf.stop_gradient(tf.cast(order, dtype)), [1])
                for order in (domain(), codomain())]

    def sigma(self, function, state):
        u, v = map(tf.stop_gradient, (state.u, state.v))
        product = u * function.product(state.kernel, v)
        return tf.reduce_max(tf.reduce_sum(product, list(range(1, product.shape.rank))))

    def log_norm(self, function, state, p, q):
        """`log ||W||_{p->q} = log ||W v||_q - log ||v||_p`, a function of p and q alone.

        The kernel is held constant, and so, by the envelope theorem, is the maximiser v.
        """
        kernel, u, v = map(tf.stop_gradient, (state.kernel, state.u, state.v))
        y = function.product(kernel, v)
        best = tf.argmax(tf.reduce_sum(u * y, list(range(1, y.shape.rank))))
        norm = lp_norm(y[best][tf.newaxis], q)[0] / lp_norm(v[best][tf.newaxis], p)[0]
        return tf.math.log(tf.maximum(norm, 1e-30))

    def measure(self, function, kernel, orders, iterate=None, seed=1):
        u, v = _best(function, kernel, *_starts(function, kernel, orders, seed), orders)
        iterate = iterate or self.thorough(1000)
        _, _, sigma = shared(_maximise, function, iterate)([kernel, u, v, *orders])
        return tf.reduce_max(sigma)

    def maximise(self, function, iterate, state):
        return _maximise(function, iterate, [state.kernel, state.u, state.v, state.p, state.q])

    def update(self, function, iterate, coeff, state):
        return self.maximise(function, iterate, state)[:2]

    def mark(self, state):
        return fingerprint(state.kernel, [state.p, state.q], state.p.shape[0])

    def search(self, function, state):
        orders = [state.p, state.q]
        u, v = _starts(function, state.kernel, orders, 0)
        u, v = tf.concat([state.u, u], 0), tf.concat([state.v, v], 0)
        return _best(function, state.kernel, u, v, orders)

    def thorough(self, num_steps):
        # It converges in fewer steps than for order 2, and its tolerance can be trusted.
        return PowerIteration(rtol=1e-6, max_steps=num_steps)


def _maximise(function, iterate, state):
    """`(u, v, sigma)` after power iteration on `[kernel, u, v, p, q]`."""
    kernel, u, v, p, q = map(tf.stop_gradient, state)
    starts = tf.shape(v)[0] // tf.shape(p)[0]
    return iterate(lambda v: function.product(kernel, v), function.adjoint_map(kernel), u, v,
                   [tf.repeat(order, starts) for order in (p, q)])


def _starts(function, kernel, orders, seed):
    """`(u, v)` to begin with: random ones and the largest columns."""
    inputs, outputs = function.event_shapes(kernel)
    many = 2 ** 22 // max(math.prod(inputs), math.prod(outputs))
    v = tf.random.stateless_normal([min(max(many, 16), 256), *inputs], [seed, 1],
                                   dtype=kernel.dtype)
    _, q = orders
    v = tf.concat([v, largest_columns(function, kernel, q[0], 16)], 0)
    return function.product(kernel, v), v


def _best(function, kernel, u, v, orders):
    """The `_STARTS` of `u` and `v` that are largest after some steps."""
    u, v, sigma = shared(_maximise, function, PowerIteration(_TRIAL))([kernel, u, v, *orders])
    chosen = best_distinct(v, sigma, _STARTS)
    return tf.gather(u, chosen), tf.gather(v, chosen)
