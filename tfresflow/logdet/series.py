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
import functools
import operator

import keras
import tensorflow as tf

from tfresflow.batches import xla
from tfresflow.batches.rows import dot, each, last_nonzero
from tfresflow.functions.derivatives import held
from tfresflow.functions.steps import say_together
from tfresflow.logdet.difference import alternating
from tfresflow.saving.configurable import Configurable

__all__ = ["Neumann", "Series", "in_basis", "rounds", "sum_beside", "sum_powers", "sum_series",
           "sum_until_small"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Series(Configurable):
    """Back-propagates through the terms of the series: memory grows with their number.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x, terms = tf.ones([4, 2]), logdet.Truncated(5)
      >>> a = logdet.LogDet(terms, gradient=logdet.Series())(lambda x: tf.sin(x) / 2, x, seed=0)
      >>> b = logdet.LogDet(terms, gradient=logdet.Neumann())(lambda x: tf.sin(x) / 2, x, seed=0)
      >>> bool(tf.reduce_all(abs(a[1] - b[1]) < 1e-5))            # the value is the same
      True

    References: Chen et al., Residual Flows (2019), equation 8.
    """

    is_form = False

    def targets(self, jacobian, v, terms, w):
        """See `Neumann`; w does not count."""
        return _of(terms.sum(jacobian, v)[0])

    def recorded(self, tape, jacobian, v, terms):
        """The estimate `[N]`, and its `targets` on a tape that is recording."""
        log_det = terms.law.sum(jacobian, v, terms.drawn)[0]
        return log_det, _of(log_det)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Neumann(Configurable):
    """The gradient as a Neumann series, equation 9: memory does not grow with the terms.

    It is the gradient of `w^T J v`, v the probe, J = dg/dx, and `w = sum_k (-1)^k c_k (J^T)^k v`
    held constant. Its mean is the gradient of the log-determinant.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> estimate = logdet.LogDet(logdet.Truncated(20), logdet.Neumann(), probe=logdet.rademacher)
      >>> x = tf.constant([[1.0]])          # g(x) = sin(x) / 2: log_det = log(1 + cos(x) / 2)
      >>> with tf.GradientTape() as tape:
      ...     tape.watch(x)
      ...     log_det = estimate(lambda x: tf.sin(x) / 2, x, seed=0)[1]
      >>> round(float(tape.gradient(log_det, x)[0, 0]), 3)
      -0.331
      >>> round(float(-tf.sin(1.) / (2 + tf.cos(1.))), 3)
      -0.331

    References: Chen et al., Residual Flows (2019), equation 9.
    """

    is_form = True  # that of `w^T J v`, w held constant, and nothing else

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "is_form", "targets", "recorded", by=Series)

    def targets(self, jacobian, v, terms, w):
        """What is differentiated: from a scale `[N]` to `(tensors, cotangents)`.

        These give the gradient of `sum(scale log_det)`, where w is held constant.

        Args:
          jacobian, v: see `sum_series`.
          terms: `terms.Terms`, whose sum w is; not looked at here.
          w: of `sum_series`.
        """
        products, others = zip(*map(jacobian.form, w, v))
        return lambda scale: (list(products), [each(scale / len(v), other) for other in others])

    def recorded(self, tape, jacobian, v, terms):
        """See `Series`."""
        with tape.stop_recording():
            log_det, w = terms.law.sum(jacobian, v, terms.drawn)
        return log_det, self.targets(jacobian, v, terms, held(w))


def sum_series(jacobian, v, c, signs=alternating):
    """The value and, for its gradient, the Neumann vectors.

    Args:
      jacobian: J, of `jacobian.py`.
      v: probes, each `[N, ...]`.
      c: `[n + 1]`, weights of the terms.
      signs: `alternating` or `odd`.

    Returns:
      `(log_det, w)`: the mean over the probes `[N]`, and a list of one `[N, ...]` a probe.
    """
    if jacobian.matrix is not None:
        return sum_powers(jacobian.matrix, v, rounds(c, signs))
    by_k, signed = _signed(c, signs)

    def term(k, us, log_det, ws):
        us = [jacobian.vjp(u) for u in us]
        log_det += tf.gather(by_k, k) * tf.add_n([dot(u, v_p) for u, v_p in zip(us, v)])
        weight = tf.gather(signed, k)
        return k + 1, us, log_det, [w + weight * u for w, u in zip(ws, us)]

    n = last_nonzero(c)
    ws = [signed[0] * v_p for v_p in v]
    state = (tf.constant(1), list(v), tf.zeros_like(dot(v[0], v[0])), ws)
    _, _, log_det, ws = tf.while_loop(lambda k, *_: k <= n, term, state,
                                      maximum_iterations=_most(signed))
    return log_det / len(v), ws


def sum_until_small(law, jacobian, v, drawn, signs=alternating):
    """`sum_series` with weights that follow from the terms; where J is known, the sum itself.

    Args:
      law: `weight(k, least, drawn)` gives the weights of term k, `[N]`, from the least length that
        the vectors `u_j`, j < k, have had as a part of that of the probes.
      jacobian, v, signs: see `sum_series`; where J is known, the signs are alternating.
      drawn: what `weight` is given.
    """
    if jacobian.matrix is not None:
        return _closed(jacobian.matrix, v)
    length = _length(v)

    def term(k, c, least, us, log_det, ws):
        us = [jacobian.vjp(u) for u in us]
        of_value, of_w = (tf.cast(sign, c.dtype) for sign in signs(k))
        by_k = of_value * c / tf.cast(k, c.dtype)
        log_det += by_k * tf.add_n([dot(u, v_p) for u, v_p in zip(us, v)])
        least = tf.minimum(least, tf.math.divide_no_nan(_length(us), length))
        ws = [w + each(of_w * c, u) for w, u in zip(ws, us)]
        return k + 1, law.weight(k + 1, least, drawn), least, us, log_det, ws

    one = tf.ones_like(length)
    ws = [signs(0)[1] * v_p for v_p in v]
    state = tf.constant(1), one, one, list(v), tf.zeros_like(one), ws
    *_, log_det, ws = tf.while_loop(lambda k, c, *_: tf.reduce_any(c > 0), term, state,
                                    maximum_iterations=2 ** 13 if xla.is_compiling() else None)
    return log_det / len(v), ws


def _length(vectors):
    """`[N]`, of the vectors of all probes as one; a constant to the gradient."""
    return tf.stop_gradient(tf.sqrt(tf.add_n([dot(u, u) for u in vectors])))


def _closed(matrix, v):
    """`(log |det(I + J)|, (I + J)^-T v)` from the numbers of J, see `jacobian.py`."""
    v = [tf.unstack(v_p, axis=-1) for v_p in v]
    if len(matrix) == 1:
        slope = 1 + matrix[0][0]
        return tf.math.log(tf.abs(slope)), [tf.stack([v_p[0] / slope], axis=-1) for v_p in v]
    (a, b), (c, d) = (1 + matrix[0][0], matrix[0][1]), (matrix[1][0], 1 + matrix[1][1])
    determinant = a * d - b * c
    ws = [tf.stack([(d * v0 - b * v1) / determinant, (a * v1 - c * v0) / determinant], axis=-1)
          for v0, v1 in v]
    return tf.math.log(tf.abs(determinant)), ws


def _of(log_det):
    return lambda scale: ([log_det], [scale])


def _signed(c, signs):
    """Weights of J^k in the value and in the Neumann vector, `[n + 1]` each."""
    k = tf.cast(tf.range(tf.shape(c)[0]), c.dtype)
    of_value, of_w = signs(k)
    return tf.math.divide_no_nan(of_value * c, k), of_w * c  # the value begins with k = 1


def _most(weights):
    """Rounds of a loop over weights `[K, ...]`, which XLA has to know to make gradients of it."""
    return weights.shape[0] if xla.is_compiling() else None


def rounds(c, signs=alternating):
    """`[R, 8, 2, 1]`: what `sum_powers` does in each of its rounds, zeros at the end."""
    a = tf.stack(_signed(c, signs), axis=1)
    padded = tf.pad(a, [[0, -tf.shape(a)[0] % 8], [0, 0]])
    return tf.reshape(padded, [-1, 8, 2, 1])


def sum_powers(matrix, v, coefficients):
    """The sum of the series of J itself, in the plane or on the line.

    There, all powers of J are combinations of two, `J^2 = T J - det J` with T the trace (Cayley
    and Hamilton), so that the sums follow from numbers alone, one an example, by the recurrence of
    Clenshaw:

        sum_k a_k v^T J^k = b_0 v^T + b_1 (v^T J - T v^T),   b_k = a_k + T b_{k+1} - det J b_{k+2}

    Args:
      matrix: D by D numbers `[N]`, see `jacobian.py`.
      v: probes, each `[N, D]`.
      coefficients: a_k of the value and of the Neumann vector, as `rounds` gives them.

    Returns:
      `(log_det, w)`, see `sum_series`.
    """
    v = [tf.unstack(v_p, axis=-1) for v_p in v]  # as the matrix: operations on rows of two are slow
    if len(matrix) == 1:
        trace, determinant = matrix[0][0], tf.zeros_like(matrix[0][0])
    else:
        trace = matrix[0][0] + matrix[1][1]
        determinant = matrix[0][0] * matrix[1][1] - matrix[0][1] * matrix[1][0]

    b, next_b = _clenshaw(trace, determinant, coefficients)
    pairs = list(zip(tf.unstack(b), tf.unstack(next_b)))  # of the value, of the Neumann vector
    log_dets, ws = [], []
    for v_p in v:
        other = [_sum_of_products(v_p, column) - trace * a for a, column in zip(v_p, matrix)]
        value, w = ([b * a + next_b * o for a, o in zip(v_p, other)] for b, next_b in pairs)
        log_dets.append(_sum_of_products(value, v_p))
        ws.append(tf.stack(w, axis=-1))
    return tf.add_n(log_dets) / len(v), ws


def sum_beside(v, product, other, coefficients):
    """The sum for one probe in the plane, from what J makes of it and of its neighbour.

    Read as complex numbers, the neighbour is i v, and `a + ic = J v / v` and `b + id = J (i v) / v`
    hold the columns of J in the basis of the two, in which v is (1, 0).

    Args:
      v: `[N, 2]`.
      product, other: `J v` and `J (i v)`.
      coefficients: of `rounds`.

    Returns:
      `(log_det, w)`: `[N]` and `[N, 2]`.
    """
    a, b, c, d = in_basis(v, product, other)
    now, after = _clenshaw(a + d, a * d - b * c, coefficients)
    value, w0 = tf.unstack(now - d * after)
    w1 = b * after[1]
    v0, v1 = tf.unstack(v, axis=1)
    return (v0 * v0 + v1 * v1) * value, tf.stack([v0 * w0 - v1 * w1, v1 * w0 + v0 * w1], axis=1)


def in_basis(v, product, other):
    """`(a, b, c, d)`, each `[N]`: the rows of J, `a b` and `c d`, in the basis of `sum_beside`."""
    v0, v1 = tf.unstack(v, axis=1)
    (p0, p1), (q0, q1) = (tf.unstack(t, axis=1) for t in (product, other))
    squared = v0 * v0 + v1 * v1
    r0, r1 = tf.math.divide_no_nan(v0, squared), tf.math.divide_no_nan(v1, squared)
    return (r0 * p0 + r1 * p1, r0 * q0 + r1 * q1, r0 * p1 - r1 * p0, r0 * q1 - r1 * q0)


def _clenshaw(trace, determinant, coefficients):
    """`(b_0, b_1)` of `sum_powers`, each `[2, N]`."""
    def step(i, b, next_b):
        for a in reversed(tf.unstack(coefficients[i])):
            b, next_b = a + trace * b - determinant * next_b, b
        return i - 1, b, next_b

    # The last round is not in the loop: mostly there is no other, and one of a loop costs more.
    zero = tf.zeros_like([trace, trace])
    start = last_nonzero(coefficients), zero, zero
    return step(*tf.while_loop(lambda i, *_: i > 0, step, start,
                               maximum_iterations=_most(coefficients)))[1:]


def _sum_of_products(a, b):
    return functools.reduce(operator.add, map(operator.mul, a, b))
