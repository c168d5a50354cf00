"""The norm constraint of a layer as pure functions of its kernel and vectors.

Equal layers share them, traced once. The state is a list of tensors:

    [kernel]                            norms in closed form
    [kernel, u, v]                      p = q = 2
    [kernel, u, v, p, q]                other orders, `[1]` each
    [kernel, u, v, r, slack, p, q]      the same, certified

`static` is the pair of orders in the first two cases, else None.
"""

import dataclasses
import math

import tensorflow as tf

from tfresflow.functions.function import Function, Scale
from tfresflow.functions.traced import is_shareable
from tfresflow.layers import bounds
from tfresflow.layers.fingerprint import fingerprint
from tfresflow.layers.linear import Linear, scale_kernel
from tfresflow.layers.norms import PowerIteration, closed_norm, krylov, lp_norm

__all__ = ["Constrained", "any_changed", "batches", "follow_vectors", "iterate_vectors",
           "krylov_vectors", "log_norm", "normalize", "stacked", "unstacked", "update_vectors"]

_FAR = 0.3  # how much of a kept vector a single step moves where the kernel is another one


def iterate_vectors(function, iterate, static, state):
    """Power iteration on `[kernel, u, v]` or `[kernel, u, v, p, q]`; `(u, v, sigma)`.

    With B stacked kernels and `[B]` orders, u and v hold the starts of each in turn.
    """
    kernel, u, v, *orders = map(tf.stop_gradient, state)
    if not static:
        starts = tf.shape(v)[0] // tf.shape(orders[0])[0]
        static = [tf.repeat(order, starts) for order in orders]
    return iterate(lambda v: function.product(kernel, v), function.adjoint_map(kernel), u, v,
                   static)


def krylov_vectors(function, state):
    """`(u, v)` near the first singular vectors of `[kernel, u, v]`, from a Krylov space."""
    kernel, u, v = map(tf.stop_gradient, state)
    adjoint = function.adjoint_map(kernel)

    def product(v):
        return function.product(kernel, v)

    if u.shape.num_elements() < v.shape.num_elements():
        u = krylov(adjoint, product, u)
        return u, adjoint(u)
    v = krylov(product, adjoint, v)
    return product(v), v


def update_vectors(function, iterate, static, coeff, limit, state):
    """The vectors of `InducedNorm`, brought up to date, and what they were made for."""
    if static:
        mark = fingerprint(state[0], count=state[2].shape[0])
    if static:
        return *iterate_vectors(function, iterate, static, state)[:2], mark
    kernel, u, v, *guard, p, q = state
    mark = fingerprint(kernel, [p, q], p.shape[0])
    batch = tf.shape(p)[0]
    if guard:
        # The last start of each is the singular vector: near order 2, it leads to the maximum.
        parts = tf.reshape(v, [batch, -1, *v.shape[1:]])
        v = tf.reshape(tf.concat([parts[:, :-1], guard[0][:, tf.newaxis]], 1), tf.shape(v))
    u, v, sigma = iterate_vectors(function, iterate, None, [kernel, u, v, p, q])
    if not guard:
        return u, v, mark
    by_start = tf.reshape(sigma, [batch, -1])
    best = tf.argmax(by_start, 1, tf.int32) + tf.range(batch) * tf.shape(by_start)[1]
    bound, r = bounds.quick_bound(function, iterate, kernel, p, q, tf.gather(v, best), guard[0])
    sigma = tf.maximum(tf.reduce_max(by_start, 1), 1e-30)
    slack = tf.maximum(tf.ones_like(bound), bound * coeff / (limit * sigma))
    return u, v, r, slack, mark


def follow_vectors(function, iterate, static, coeff, limit, state):
    """`update_vectors`, thoroughly and with fresh starts mixed in where the kernel is a new one.

    A step of training turns the kept vectors a little; weights that were swapped, or assigned,
    may have nothing of the old maximum.
    """
    kernel, u, v, *rest = map(tf.stop_gradient, state)
    orders = rest[len(rest) - 2:] if not static else []
    new_u, new_v, _ = iterate_vectors(function, PowerIteration(1), static, [kernel, u, v, *orders])

    def update(iterate, v):
        return update_vectors(function, iterate, static, coeff, limit, [kernel, new_u, v, *rest])

    def anew():
        fresh = tf.random.stateless_normal(tf.shape(v), [0, 1], dtype=v.dtype)
        known = tf.where(tf.math.is_finite(new_v), new_v, tf.zeros_like(new_v))
        return update(PowerIteration(rtol=1e-6, max_steps=1000),
                      known + 0.3 * fresh * (tf.norm(known) + 1e-6) / tf.norm(fresh))

    near = tf.norm(new_v - v) <= _FAR * tf.norm(v)  # not so, either, if one is not finite
    return tf.cond(near, lambda: update(iterate, new_v), anew)


def any_changed(sizes, tensors, marks):
    """Whether one of the kernels is not the one of its mark.

    Args:
      sizes: of the state of each: a kernel and, unless they are static, its orders.
      tensors: all that.
      marks: `[1]` of each, of `fingerprint`.
    """
    groups = {}
    for own, mark in zip(tf.nest.pack_sequence_as([[0] * size for size in sizes], tensors), marks):
        groups.setdefault((len(own), tuple(own[0].shape)), []).append([*own, mark])
    return tf.reduce_any(tf.concat([
        fingerprint(kernel, orders, len(some)) != mark for (_, shape), equal in groups.items()
        for some in batches(equal, shape) for kernel, *orders, mark in [stacked(some)]], 0))


def batches(equal, shape):
    """Lists of as many of them as stay in a processor's cache, each a tensor of `shape`."""
    count = max(1, 2 ** 18 // math.prod(shape))
    return [equal[i:i + count] for i in range(0, len(equal), count)]


def stacked(states):
    """The state of one operator of many parts; that of a single one as it is."""
    if len(states) == 1:
        return states[0]
    kernels, *vectors = zip(*states)
    return [tf.stack(kernels), *(tf.concat(own, 0) for own in vectors)]


def unstacked(x, count):
    """What of the vectors `x` belongs to each of so many parts."""
    return tf.split(x, count) if count > 1 else [x]


def norm_factor(function, coeff, static, state):
    """`1 / max(1, slack sigma / coeff)`, by which the kernel is to be multiplied."""
    kernel = state[0]
    if len(state) == 1:
        sigma = closed_norm(function, kernel, *static)
    else:
        u, v = map(tf.stop_gradient, state[1:3])
        product = u * function.product(kernel, v)
        if product.shape[0] == 1:
            sigma = tf.reduce_sum(product)
        else:
            sigma = tf.reduce_max(tf.reduce_sum(product, list(range(1, product.shape.rank))))
    if len(state) == 7:
        sigma *= tf.stop_gradient(state[4][0])
    # `coeff / max(sigma, coeff)`, in operations that have short gradients.
    return tf.math.reciprocal(1 + tf.nn.relu((1 / coeff) * sigma - 1))


def log_norm(function, state, p, q):
    """`log ||W||_{p->q} = log ||W v||_q - log ||v||_p`, a function of p and q alone.

    The kernel is held constant, and so, by the envelope theorem, is the maximiser v.
    """
    kernel, u, v = map(tf.stop_gradient, state)
    y = function.product(kernel, v)
    best = tf.argmax(tf.reduce_sum(u * y, list(range(1, y.shape.rank))))
    norm = lp_norm(y[best][tf.newaxis], q)[0] / lp_norm(v[best][tf.newaxis], p)[0]
    return tf.math.log(tf.maximum(norm, 1e-30))


def normalize(function, coeff, static, state):
    """The kernel times `norm_factor`."""
    return scale_kernel(state[0], norm_factor(function, coeff, static, state))


@dataclasses.dataclass(frozen=True)
class Constrained(Function):
    """A linear map of bounded norm, weights `[*state, *bias]`; `size`: tensors of the state.

    Only its pieces are ever evaluated.
    """

    linear: Linear
    coeff: float
    static: tuple | None
    size: int

    @property
    def shareable(self):
        return is_shareable(self.linear)

    def pieces(self, size):
        return (Scale(), 1), (self.linear, 1 + size - self.size)

    def piece_weights(self, weights):
        state, bias = weights[:self.size], weights[self.size:]
        return [[norm_factor(self.linear, self.coeff, self.static, state)], [state[0], *bias]]
