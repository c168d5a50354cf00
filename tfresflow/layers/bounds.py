"""Proven upper bounds of `||W||_{p->q}`, which power iteration estimates from below.

Three norms can be computed: 2 -> 2 (the largest singular value), 1 -> q (the largest column)
and p -> inf (the largest row). All others follow from them.

p <= q, by the Riesz-Thorin theorem: log ||W|| is convex in (1/p, 1/q). The line from
(1/2, 1/2) through (1/p, 1/q) meets 1/p = 1 or 1/q = 0 in a point e, so

    ||W||_{p->q} <= ||W||_{2->2}^(1-theta) ||W||_e^theta

p > q, by scaling first: for diagonal matrices T, S of positive numbers

    ||W||_{p->q} <= ||S||_{m->q} ||S^-1 W T^-1||_{m->m} ||T||_{p->m},   m = median(p, 2, q)

With t = w^(1/m - 1/p), sum(w) = 1, the norm of T is 1, and that of S likewise. With
w = |v|^p of a maximiser v, and |W v|^q for S, the bound is the norm itself if v is the global
maximum: a certificate. Some of the uniform distribution is mixed in, as a v that is zero
somewhere proves nothing.

References: Chen et al., Residual Flows (2019), section 2.3; Steinberg, Computation of matrix
norms (2005); Delattre et al., Efficient bound of Lipschitz constant for convolutional layers by
Gram iteration (2023).
"""

import math

import numpy as np
import tensorflow as tf

from tfresflow.layers.norms import closed_norm, lp_norm

__all__ = ["largest_columns", "quick_bound", "upper_bound"]

_LARGEST_GRAM = 4096  # rows and columns of the matrix of a convolution that is made
_LARGEST_DECOMPOSED = 1024
_WIDE = 16  # images where circular padding makes a small difference
_ROUNDING = 1 + 1e-9


def upper_bound(function, kernel, p, q, v=None):
    """A proven bound, in float64.

    For p = q = 2 exact up to 1,024 inputs or outputs, and on a torus; beyond, to a thousandth, or,
    for convolutions of images of 16 pixels a side and more, that of circular padding, which is
    close to them at such sizes. Exact for p = 1 and for q = inf.

    Args:
      function: a `Linear`.
      kernel: its kernel.
      p, q: numbers in [1, inf].
      v: `[S, ...]`, maximisers that are known.

    Returns:
      A float.
    """
    kernel = tf.constant(kernel, tf.float64)
    if p == 1 or q == math.inf:
        return float(closed_norm(function, kernel, p, q)) * _ROUNDING
    if p == q == 2 and function.is_circular:
        return function.circular_norm(kernel.numpy()) * _ROUNDING
    inputs, _ = function.event_shapes(kernel)
    # The uniform distribution, then those of the maximisers.
    choices = [(np.ones(inputs), 1.0)]
    if p > q and v is not None:
        choices += [(start, mixed) for start in v for mixed in (0.03, 0.3)]
    tried = []
    for start, mixed in choices:
        factors = _Factors(function, kernel, tf.constant([p], tf.float64),
                           tf.constant([q], tf.float64), tf.constant(start[None], tf.float64),
                           mixed)
        singular = factors.largest_singular_value()
        if singular is None and not tried:
            scales = tf.reduce_max(factors.t) * tf.reduce_max(factors.s)  # all alike
            singular = function.circular_norm(kernel.numpy()) / float(scales) * _ROUNDING
        if singular is not None:
            tried.append(float(factors.bound(singular)[0]))
    return min(tried)


def quick_bound(function, iterate, kernel, p, q, v, r):
    """As `upper_bound`, with power iteration for the singular value: for every training step.

    Args:
      function: a `Linear`.
      iterate: a `PowerIteration`.
      kernel: its kernel, or `[B, ...]` kernels.
      p, q: `[B]`.
      v: `[B, ...]`, a maximiser of each.
      r: `[B, ...]`, where power iteration starts.

    Returns:
      `(bound, r)`: `[B]`, a bound as far as power iteration has converged; and where it ended.
    """
    factors = _Factors(function, kernel, p, q, v, 0.1)
    _, r, singular = iterate(factors.product, factors.adjoint, factors.product(r), r)
    return factors.bound(singular), r


def largest_columns(function, kernel, q, count):
    """One-hot inputs `[count, ...]` of the largest columns of W, in the q-norm."""
    inputs, outputs = function.event_shapes(kernel)
    size = tf.maximum(tf.reduce_max(tf.abs(kernel)), 1e-30)
    powers = tf.abs(kernel / size) ** tf.cast(q, kernel.dtype)
    sums = tf.reshape(function.adjoint(powers, tf.ones([1, *outputs], kernel.dtype)), [-1])
    places = tf.math.top_k(sums, min(count, sums.shape[0])).indices
    return tf.reshape(tf.one_hot(places, sums.shape[0], dtype=kernel.dtype), [-1, *inputs])


class _Factors:
    """`S^-1 W T^-1` and the orders m_p, m_q that its norm is to be bounded for."""

    def __init__(self, function, kernel, p, q, v, mixed):
        self.function, self.kernel = function, kernel
        falling, a, b = p > q, 1 / p, 1 / q
        middle = tf.minimum(tf.maximum(tf.minimum(a, b), 0.5), tf.maximum(a, b))
        self.a, self.b = (tf.where(falling, middle, x) for x in (a, b))
        self.t = _power(_distribution(v, p, mixed), self.a - a)
        y = self._product(v) if mixed < 1 else tf.ones_like(self._product(v))
        self.s = _power(_distribution(y, q, mixed), b - self.b)

    def product(self, x):
        return self._product(x / self.t) / self.s

    def adjoint(self, u):
        return self.function.adjoint(self.kernel, u / self.s) / self.t

    def _product(self, x):
        return self.function.product(self.kernel, x)

    def bound(self, singular):
        """From the largest singular value of `S^-1 W T^-1`."""
        da, db = self.a - 0.5, self.b - 0.5
        theta = 2 * tf.maximum(da, -db)
        reach = 1 / tf.maximum(theta, 1e-12)
        # An order above 64 would only lose to overflow what it gains; a lower one is a bound, too.
        column = tf.minimum(1 / tf.maximum(0.5 + db * reach, 1e-6), 64.0)
        row = tf.minimum(1 / tf.maximum(0.5 - da * reach, 1e-6), 64.0)
        edge = tf.where(da >= -db, self._largest(column, True), self._largest(row, False))
        return singular ** (1 - theta) * edge ** theta

    def _largest(self, r, columns):
        """The largest r-norm of a column, or a row, of `S^-1 W T^-1`."""
        def each(like):
            return tf.reshape(r, [-1] + [1] * (like.shape.rank - 1))

        stacked = self.function.stackable and self.kernel.shape.rank == 3
        size = tf.reduce_max(tf.abs(self.kernel), [1, 2] if stacked else None, keepdims=stacked)
        size = tf.maximum(size, 1e-30)
        powers = (tf.abs(self.kernel) / size) ** (each(self.kernel) if stacked else r[0])
        if columns:
            sums, by = self.function.adjoint(powers, self.s ** -each(self.s)), self.t
        else:
            sums, by = self.function.product(powers, self.t ** -each(self.t)), self.s
        norms = tf.maximum(sums, 1e-30) ** (1 / each(sums)) / by
        return tf.reshape(size, [-1]) * tf.reduce_max(norms, list(range(1, norms.shape.rank)))

    def largest_singular_value(self):
        """Of `S^-1 W T^-1`, eagerly; by the Gram matrix of the smaller side, or None."""
        inputs, outputs = self.function.event_shapes(self.kernel)
        apply, then, shape = self.product, self.adjoint, inputs
        if math.prod(outputs) < math.prod(inputs):
            apply, then, shape = self.adjoint, self.product, outputs
        n = math.prod(shape)
        if len(inputs) > 1:  # a convolution's
            wide = min(inputs[:-1]) >= _WIDE
            if n > (_LARGEST_DECOMPOSED if wide else _LARGEST_GRAM):
                return None
        identity = np.eye(n).reshape(n, *shape)
        gram = np.concatenate([np.reshape(then(apply(tf.constant(identity[i:i + 128]))), [-1, n])
                               for i in range(0, n, 128)])
        return math.sqrt(max(_largest_eigenvalue(gram), 0.0)) * _ROUNDING


def _largest_eigenvalue(gram):
    """A bound of it: exact for small matrices, else to a thousandth."""
    if len(gram) <= _LARGEST_DECOMPOSED:
        return np.linalg.eigvalsh(gram)[-1]
    x = np.random.RandomState(0).normal(size=len(gram))
    for _ in range(200):
        x = gram @ (x / np.linalg.norm(x))
    bound = np.linalg.norm(x)
    while True:  # it is one if bound I - gram is positive definite
        bound *= 1.001
        try:
            np.linalg.cholesky(bound * np.eye(len(gram)) - gram)
            return bound
        except np.linalg.LinAlgError:
            pass


def _distribution(x, r, mixed):
    """`|x|^r` of sum 1, with a share `mixed` of the uniform one."""
    norm = tf.maximum(lp_norm(x, r), 1e-30)
    shape = [-1] + [1] * (x.shape.rank - 1)
    powers = tf.abs(x / tf.reshape(norm, shape)) ** tf.reshape(tf.cast(r, x.dtype), shape)
    total = tf.reduce_sum(powers, list(range(1, x.shape.rank)), keepdims=True)
    return (1 - mixed) * powers / tf.maximum(total, 1e-30) + mixed / math.prod(x.shape[1:])


def _power(w, exponent):
    return w ** tf.reshape(exponent, [-1] + [1] * (w.shape.rank - 1))
