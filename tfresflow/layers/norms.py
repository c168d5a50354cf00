"""Power iteration for the induced norm of a linear operator, from products alone.

    ||W||_{p->q} = max ||W v||_q / ||v||_p,   1/p + 1/p* = 1

    u <- dual_q(W v),   v <- dual_{p*}(W^T u),   s = <u, W v> = ||W^T u||_{p*}
    dual_r(z) = sign(z) (|z| / ||z||_r)^{r-1},   of norm 1 in r*

For p = q = 2 these are singular vectors, and s grows towards the largest singular value.
In general s grows towards a stationary point: an estimate from below, which several starts
make good. Where p = 1 or q = inf the norm has a closed form, that of the largest column or row.

References: Boyd, The power method for l^p norms (1974); Johnston, QETLAB (2016); Chen et al.,
Residual Flows (2019), section 2.3.
"""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.checks.rules import check_number, check_whole
from tfresflow.saving.configurable import Configurable

__all__ = ["PowerIteration", "best_distinct", "closed_norm", "dual", "krylov", "lp_norm",
           "power_iteration"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class PowerIteration(Configurable):
    """When power iteration stops: after a count of steps, or by tolerance.

    Args:
      num_steps: fixed number of steps; None: stop by tolerance.
      rtol, atol: stop when a step changes the estimate s of the norm by at most `atol + rtol * s`.
        Where the largest singular values lie close together, s may then be too small by some
        times that.
      max_steps: most steps when stopping by tolerance.

    Raises:
      ValueError: if a count is not a positive integer, or a tolerance is negative.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> w = tf.constant([[3.0, 0.0], [4.0, 5.0]], tf.float64)
      >>> iterate = layers.PowerIteration(rtol=1e-6)
      >>> u, v, s = iterate(lambda v: v @ tf.transpose(w), lambda u: u @ w, u=w[:1], v=w[:1])
      >>> round(float(s[0]), 2), round(45 ** 0.5, 2)  # the largest singular value of w
      (6.71, 6.71)

    References: Boyd, The power method for l^p norms (1974); Chen et al., Residual Flows (2019),
    section 2.3.
    """

    num_steps: int | None = None
    rtol: float = 1e-3
    atol: float = 0.0
    max_steps: int = 200

    def __post_init__(self):
        check_whole("num_steps", self.num_steps, 1, optional=True)
        check_whole("max_steps", self.max_steps, 1)
        for name in ("rtol", "atol"):
            check_number(name, getattr(self, name), "not be negative", lambda value: value >= 0)

    def __call__(self, matvec, adjoint, u, v, orders=(2.0, 2.0)):
        """Power iteration for the norms of B linear operators W, or from B starts.

        Args:
          matvec: `v -> W v`, of `[B, ...]`.
          adjoint: `u -> W^T u`, of `[B, ...]`.
          u, v: `[B, ...]`, where to start.
          orders: p in (1, inf] and q in [1, inf), numbers or tensors `[B]`.

        Returns:
          `(u, v, s)`: maximisers of unit norm in q* and p, and the estimates `[B]` of
          `||W||_{p->q}`, from below.
        """
        if self.num_steps is not None:
            return power_iteration(matvec, adjoint, u, v, orders, max_steps=self.num_steps)
        return power_iteration(matvec, adjoint, u, v, orders, max_steps=self.max_steps,
                               rtol=self.rtol, atol=self.atol)


def power_iteration(matvec, adjoint, u, v, orders=(2.0, 2.0), *, max_steps, rtol=None, atol=0.0):
    """Norms of operators that are given by their products.

    Args:
      matvec: `v -> W v`; `[B, ...]` for B operators (or starts) at once, any shapes.
      adjoint: `u -> W^T u`.
      u, v: `[B, ...]`, where to start; a good start saves most of the steps.
      orders: p in (1, inf] and q in [1, inf), numbers or tensors `[B]`.
      max_steps: steps, or the most of them when `rtol` is given.
      rtol, atol: stop when every estimate moved by at most `atol + rtol * s`; None: never.

    Returns:
      `(u, v, s)`: maximisers of unit norm in q* and p, and the estimates `[B]`.
    """
    q, conjugate = orders[1], _conjugate(orders[0])

    def step(k, u, v, s, change):
        new_u = dual(matvec(v), q)
        z = adjoint(new_u)
        new_s = lp_norm(z, conjugate)
        return k + 1, new_u, dual(z, conjugate, new_s), new_s, tf.abs(new_s - s)

    def going_on(k, u, v, s, change):
        del u, v
        if rtol is None:
            return k < max_steps
        return (k < max_steps) & tf.reduce_any(change > atol + rtol * s)

    zero = tf.zeros_like(lp_norm(v, 2.0))
    v = v / _each(tf.maximum(lp_norm(v, orders[0]), _TINY), v)
    _, u, v, s, _ = tf.while_loop(going_on, step, (tf.constant(0), u, v, zero, zero + v.dtype.max))
    return u, v, s


def krylov(matvec, adjoint, v, restarts=0, size=20):
    """Near the first right singular vectors: the best of v, `W^T W v`, `(W^T W)^2 v`, ... combined.

    Where the largest singular values lie close together, as those of fresh weights do, power
    iteration takes ten times the steps.

    Args:
      matvec: `v -> W v`, `[B, ...]` for B operators at once, any shapes.
      adjoint: `u -> W^T u`.
      v: `[B, ...]`, where to start.
      restarts: how often it begins again with what it has found.
      size: vectors that are combined, orthogonalised.

    Returns:
      `[B, ...]`, of unit norm: the Ritz vector of the largest Ritz value of each.
    """
    shape, flat = v.shape, tf.reshape(v, [v.shape[0], 1, -1])
    zeros = [tf.zeros([v.shape[0], size, n], v.dtype) for n in (flat.shape[2], size)]

    def step(k, basis, products, v):
        before = tf.norm(v, axis=2, keepdims=True)
        for _ in range(2):  # once is not enough in finite precision
            v -= tf.matmul(tf.matmul(v, basis, transpose_b=True), basis)
        after = tf.norm(v, axis=2, keepdims=True)
        # Nothing is left where the space ends; what rounding leaves must not be scaled up.
        v = tf.where(after > 1e-5 * before, v / tf.maximum(after, _TINY), 0)
        place = tf.reshape(tf.one_hot(k, size, dtype=v.dtype), [1, size, 1])
        basis += place * v
        v = tf.reshape(adjoint(matvec(tf.reshape(v, shape))), flat.shape)
        return k + 1, basis, products + place * tf.matmul(v, basis, transpose_b=True), v

    def run(i, v):
        _, basis, products, _ = tf.while_loop(lambda k, *_: k < size, step,
                                              (tf.constant(0), *zeros, v))
        combined = tf.linalg.eigh(products)[1][..., -1]  # of lower triangles: what there is
        return i + 1, tf.matmul(combined[:, tf.newaxis], basis)

    _, flat = tf.while_loop(lambda i, _: i <= restarts, run, (tf.constant(0), flat))
    return tf.reshape(flat, shape)


def best_distinct(v, estimates, count):
    """Indices `[count]` of the largest estimates `[B]`, no two of whose `v` are alike up to sign.

    Where fewer are distinct, the last of them is repeated.
    """
    flat = tf.linalg.l2_normalize(tf.cast(tf.reshape(v, [v.shape[0], -1]), tf.float32), 1)
    scores = tf.cast(estimates, tf.float32)
    chosen = tf.raw_ops.NonMaxSuppressionWithOverlaps(
        overlaps=tf.abs(tf.linalg.matmul(flat, flat, transpose_b=True)),
        scores=tf.where(tf.math.is_nan(scores), scores.dtype.min, scores),
        max_output_size=count, overlap_threshold=0.99, score_threshold=-math.inf)
    return tf.gather(chosen, tf.minimum(tf.range(count), tf.size(chosen) - 1))


def lp_norm(x, r):
    """`||x||_r` of each example, `[B, ...] -> [B]`; r a number or a tensor `[B]` in [1, inf]."""
    if _is(r, 2):
        return tf.sqrt(tf.reduce_sum(x * x, list(range(1, x.shape.rank))))
    x = tf.abs(tf.reshape(x, [-1, math.prod(x.shape[1:])]))
    if _is(r, 1):
        return tf.reduce_sum(x, 1)
    largest = tf.reduce_max(x, 1)
    if _is(r, math.inf):
        return largest
    # Scaled by the largest entry, so that no power overflows; one past float's range is infinite.
    r = _order(r, x)
    scaled = x / tf.maximum(largest, _TINY)[:, tf.newaxis]
    powers = tf.reduce_sum(scaled ** r, 1)
    return largest * tf.maximum(powers, _TINY) ** (1 / tf.squeeze(r, 1))


def dual(z, r, norm=None):
    """`argmax <u, z>` over `||u||_{r*} <= 1`, `[B, ...]`; r in [1, inf).

    Args:
      z: `[B, ...]`.
      r: a number or a tensor `[B]`.
      norm: `||z||_r`, if it is known.
    """
    norm = lp_norm(z, r) if norm is None else norm
    # Any u maximises <u, 0>: one that is not 0 finds a norm again when the operator has one.
    z += _TINY
    unit = z / _each(tf.maximum(norm, _TINY), z)
    if _is(r, 2):
        return unit
    if _is(r, 1):
        return tf.sign(z)
    exponent = tf.reshape(_order(r, z) - 1, [-1] + [1] * (z.shape.rank - 1))
    return tf.sign(z) * tf.abs(unit) ** exponent


def closed_norm(function, kernel, p, q):
    """`||W||_{p->q}` where it is that of a column (p = 1) or a row (q = inf), differentiable.

    Args:
      function: a `Linear`.
      kernel: its kernel.
      p, q: numbers, or one a scalar tensor; p is 1 or q is inf.

    Returns:
      A scalar tensor.
    """
    if _is(p, 1) and _is(q, math.inf):
        return tf.reduce_max(tf.abs(function.reach(kernel)))
    # A sum of powers over each column, or row, is one product with ones.
    inputs, outputs = function.event_shapes(kernel)
    size = tf.stop_gradient(tf.maximum(tf.reduce_max(tf.abs(kernel)), _TINY))
    r = _as(q if _is(p, 1) else _conjugate(p), kernel.dtype)
    powers = tf.abs(kernel / size) ** r
    if _is(p, 1):
        sums = function.adjoint(powers, tf.ones([1, *outputs], kernel.dtype))
    else:
        sums = function.product(powers, tf.ones([1, *inputs], kernel.dtype))
    return size * tf.maximum(tf.reduce_max(sums), _TINY) ** (1 / r)


_TINY = 1e-30


def _is(order, value):
    return isinstance(order, (int, float)) and order == value


def _conjugate(p):
    """`p*`, of a number or a tensor in (1, inf]."""
    return 1 / (1 - 1 / p)


def _as(r, dtype):
    # A number that is cast goes through float32.
    return tf.constant(r, dtype) if isinstance(r, (int, float)) else tf.cast(r, dtype)


def _order(r, x):
    return tf.reshape(_as(r, x.dtype), [-1, 1])


def _each(scale, x):
    return tf.reshape(scale, [-1] + [1] * (x.shape.rank - 1))
