"""Bounds of the log-determinant's estimate, by Gauss and Gauss-Radau quadrature.

With A = (I + J)^T (I + J), `log det(I + J) = tr(log A) / 2`, and for a probe v the number
`v^T log(A) v / 2` is an integral of the logarithm over the spectrum of A. After k steps of Golub
and Kahan's bidiagonalisation of `I + J`, started from v, the quadrature of Gauss with k nodes is
above it, as all even derivatives of the logarithm are negative, and that of Radau, with one more
node left of the spectrum, below.

The same steps solve `(I + J)^T w = v`, so that the vector of the gradient costs nothing more.

References: Golub and Meurant, Matrices, Moments and Quadrature (2010), chapters 6 and 7; Ubaru,
Chen and Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature (2017).
"""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.batches import xla
from tfresflow.batches.rows import each, empty_ring, norm, where
from tfresflow.checks.rules import check, check_number, check_whole
from tfresflow.logdet.terms import Law

__all__ = ["Bracket"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Bracket(Law):
    """No power series, but quadrature: the value lies between two bounds, as close as is asked.

    Of each probe, `v^T log((I + J)^T (I + J)) v / 2`, whose mean is the log-determinant. A step
    takes one product with J and one with J^T, and the bounds close in as conjugate gradients
    converge: in few steps where the singular values of I + J are few, or apart from 0, however
    steep J is. `LogDet.bounds` returns both; the value of the estimate is their middle.

    What is left is the noise of the probes alone: there is no roulette, and no bias beyond `tol`.
    The gradient is that of `w^T J v`, w the solution of `(I + J)^T w = v`, to the same tolerance.

    Args:
      tol: half of the width at which an example is done, nats for each entry of x.
      max_steps: most steps; the bounds may then be further apart than `tol` says. Memory: two
        vectors of the size of x for each step.
      floor: a positive number below all singular values of I + J, as 1 - Lip(g) is; None: that
        of the residual block.

    Raises:
      ValueError: if `tol` or `floor` is not positive, `max_steps` is below 1, or no floor is known.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> W = tf.constant([[0.3, 0.2], [-0.1, 0.4]])              # g(x) = x W, Lip(g) < 0.5
      >>> estimate = logdet.LogDet(logdet.Bracket(floor=0.5), probe=logdet.rademacher)
      >>> _, lower, upper = estimate.bounds(lambda x: x @ W, tf.zeros([1000, 2]), seed=0)
      >>> bool(tf.reduce_all(lower <= upper)), bool(tf.reduce_max(upper - lower) < 1e-3)
      (True, True)
      >>> exact = tf.linalg.slogdet(tf.eye(2) + W)[1]
      >>> round(float(tf.reduce_mean(lower)), 1), round(float(exact), 1)
      (0.6, 0.6)

    References: Golub and Meurant, Matrices, Moments and Quadrature (2010); Golub and Kahan,
    Calculating the singular values and pseudo-inverse of a matrix (1965).
    """

    tol: float = 1e-4
    max_steps: int = 32
    floor: float | None = None

    def __post_init__(self):
        check_number("tol", self.tol, "be positive", lambda value: 0 < value < math.inf)
        check_whole("max_steps", self.max_steps, 1)
        if self.floor is not None:
            check_number("floor", self.floor, "be positive", lambda value: 0 < value < math.inf)

    has_terms = False

    def in_block(self, floor):
        return self if self.floor is not None else dataclasses.replace(self, floor=floor)

    def halved(self):
        return dataclasses.replace(self, tol=self.tol / 2)

    def draw(self, seed, dtype):
        """Nothing is drawn: an empty tensor."""
        del seed
        return tf.zeros([0], dtype)

    def bounds(self, jacobian, v, drawn):
        del drawn
        lower, upper, _ = zip(*(self._of_probe(jacobian, v_p, math.inf) for v_p in v))
        return tf.add_n(lower) / len(v), tf.add_n(upper) / len(v)

    def sum(self, jacobian, v, drawn):
        del drawn
        lower, upper, ws = zip(*(self._of_probe(jacobian, v_p, self.tol) for v_p in v))
        return (tf.add_n(lower) + tf.add_n(upper)) / (2 * len(v)), list(ws)

    def sum_plainly(self, jacobian, v, drawn):
        """w by its series, as far as it counts: derivatives of the steps above would not be stable.

        The value is not needed, and NaN.
        """
        del drawn
        small = _epsilon(v[0].dtype)

        def term(k, us, ws):
            us = [-jacobian.vjp(u) for u in us]
            return k + 1, us, list(map(tf.add, ws, us))

        def going_on(k, us, ws):
            lengths = [norm(tf.stop_gradient(u)) > small * norm(v_p) for u, v_p in zip(us, v)]
            return tf.reduce_any(tf.stack(lengths))

        *_, ws = tf.while_loop(going_on, term, (tf.constant(0), list(v), list(v)),
                               maximum_iterations=2 ** 10 if xla.is_compiling() else None)
        return tf.fill(tf.shape(v[0])[:1], tf.constant(math.nan, v[0].dtype)), ws

    def _of_probe(self, jacobian, v, rtol):
        """`(lower, upper, w)`: `[N]`, `[N]`, as v; `rtol`: of the residual of w."""
        check(self.floor is not None, "floor", "be given to Bracket where g is not the branch of a "
              "residual block whose layers say their Lipschitz constants", None)
        size = v.shape[1:].num_elements()
        steps, length = min(self.max_steps, size), norm(v)
        jvp, vjp, _ = jacobian.jvp, jacobian.vjp, jacobian.matrix  # made here, not in the loop
        right = tf.math.divide_no_nan(v, each(length, tf.ones_like(v)))
        narrow = tf.constant(2 * self.tol * size, v.dtype)

        def going_on(k, done, *_):
            return (k < steps) & ~tf.reduce_all(done)

        def step(k, done, right, beta, y, w, lower, upper, entries, lefts, rights):
            rights = _put(rights, k, right)
            left = _apart(right + jvp(right), lefts)
            alpha = norm(left)
            left = each(tf.math.divide_no_nan(tf.ones_like(alpha), alpha), left)
            lefts = _put(lefts, k, left)
            # The row k of the triangular system B^T y = |v| e_1, of which w = sum_k y_k left_k.
            y = tf.math.divide_no_nan(tf.where(k == 0, length, -beta * y), alpha)
            w = where(done, w, w + each(y, left))
            right = _apart(left + vjp(left), rights)
            beta = norm(right)
            right = each(tf.math.divide_no_nan(tf.ones_like(beta), beta), right)
            entries = _put(entries, k, tf.cast(tf.stack([alpha, beta], axis=1), tf.float64))
            low, high, least = _quadrature(entries, k, self.floor)
            scale = 0.5 * length ** 2
            # Of rounding, in the logarithm; the eigenvalues of XLA are good to six digits.
            slack = (8 * _epsilon(v.dtype) + 1e-6 * xla.is_compiling()) / tf.cast(least, v.dtype)
            lower = tf.where(done, lower, scale * (tf.cast(low, v.dtype) - slack))
            upper = tf.where(done, upper, scale * (tf.cast(high, v.dtype) + slack))
            solved = beta * tf.abs(y) <= max(rtol, 16 * _epsilon(v.dtype)) * length
            done |= solved & (upper - lower <= tf.maximum(narrow, 4 * scale * slack))
            return k + 1, done, right, beta, y, w, lower, upper, entries, lefts, rights

        infinite = tf.fill(tf.shape(length), tf.constant(math.inf, v.dtype))
        zero = tf.zeros_like(length)
        state = (tf.constant(0), length == 0, right, zero, zero, tf.zeros_like(v),
                 tf.where(length == 0, zero, -infinite), tf.where(length == 0, zero, infinite),
                 empty_ring(tf.cast(tf.stack([zero, zero], axis=1), tf.float64), steps),
                 empty_ring(v, steps), empty_ring(v, steps))
        found = tf.while_loop(going_on, step, state, maximum_iterations=steps)
        return found[6], found[7], found[5]


def _quadrature(entries, k, floor):
    """`(lower, upper, least)` after step k, float64: of the integral, and the least singular value.

    Args:
      entries: alpha and beta of all steps, `[N, K, 2]`.
      k, floor: the step, and what all singular values are above.
    """
    if not xla.is_compiling():  # which knows no matrices of a computed size
        entries = entries[:, :k + 1]
    alpha, beta = tf.unstack(entries, axis=2)
    places = tf.range(tf.shape(alpha)[1] + 1)
    before = tf.pad(beta[:, :-1], [[0, 0], [1, 0]])
    # Rows past the last step are those of the identity, apart from the others.
    diagonal = tf.where(places[:-1] <= k, alpha ** 2 + before ** 2, 1.0)
    beside = tf.where(places[:-1] <= k, alpha * beta, 0.0)
    within = tf.where(places[:-1] < k, beside, 0.0)[:, :-1]
    nodes, vectors = tf.linalg.eigh(_tridiagonal(diagonal, within))
    upper = _integral(nodes, vectors)

    node, last = floor ** 2, beside[:, k]
    reach = last ** 2 * tf.reduce_sum(vectors[:, k] ** 2 / (nodes - node), axis=1)
    longer = tf.pad(diagonal, [[0, 0], [0, 1]], constant_values=1.0)
    longer = tf.where(places == k + 1, (node + reach)[:, tf.newaxis], longer)
    lower = _integral(*tf.linalg.eigh(_tridiagonal(longer, beside)))
    # A singular value below the floor: nothing is known. No entry beside: the space is used up.
    lower = tf.where(nodes[:, 0] > node, lower, -math.inf)
    lower = tf.where(last <= 1e-15 * diagonal[:, k], upper, lower)
    return lower, upper, tf.sqrt(nodes[:, 0])


def _integral(nodes, vectors):
    return tf.reduce_sum(vectors[:, 0] ** 2 * tf.math.log(nodes), axis=1)


def _tridiagonal(diagonal, beside):
    return (tf.linalg.diag(diagonal) + tf.linalg.diag(beside, k=1) + tf.linalg.diag(beside, k=-1))


def _epsilon(dtype):
    return 2.0 ** -23 if dtype == tf.float32 else 2.0 ** -52


def _put(ring, k, x):
    """The ring `[N, K, ...]` with x in place k."""
    here = tf.range(tf.shape(ring)[1]) == k
    here = tf.reshape(here, [1, -1] + [1] * (ring.shape.rank - 2))
    return tf.where(here, x[:, tf.newaxis], ring)


def _apart(x, basis):
    """x less its part in the orthonormal `basis [N, K, ...]`, twice, as once is not enough."""
    n, count = tf.shape(basis)[0], tf.shape(basis)[1]
    size = basis.shape[2:].num_elements()
    flat, rest = tf.reshape(basis, [n, count, size]), tf.reshape(x, [n, size])
    for _ in range(2):
        rest -= tf.linalg.matvec(flat, tf.linalg.matvec(flat, rest), transpose_a=True)
    return tf.ensure_shape(tf.reshape(rest, tf.shape(x)), x.shape)
