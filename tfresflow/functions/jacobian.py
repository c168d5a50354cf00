"""The Jacobian of g at x, as the estimators need it.

`vjp(u)` is `u^T J`, `jvp(t)` is `J t`, and `form(w, v)` the two factors of `w^T J v`, one of which
holds J. The series takes vector-Jacobian products, but for the plane (`is_small`). There, forward
mode beside the evaluation of g gives the matrix in D products, after which a term of the series is
next to nothing, and `form` takes one product.
"""

import dataclasses
import functools
import typing

import tensorflow as tf

__all__ = ["is_small", "linearise"]


def linearise(g, weights, x):
    """`(g(x), J)` of a `Function`."""
    if is_small(x):
        y, jvp = g.linearise_forward(weights, x)
        return y, _Forward(jvp, x)
    y, vjp = g.linearise(weights, x)
    return y, _Reverse(vjp, lambda: g.linearise_forward(weights, x)[1])


def is_small(x):
    """Whether the matrix is cheaper than the two terms or more that an unbiased series has."""
    return x.shape.rank == 2 and x.shape[-1] <= 2


@dataclasses.dataclass
class _Reverse:
    vjp: typing.Callable
    forward: typing.Callable
    matrix = None

    @functools.cached_property
    def jvp(self):
        """`J t` of t; made when it is first asked for."""
        return self.forward()

    def form(self, w, v):
        return self.vjp(w), v


@dataclasses.dataclass
class _Forward:
    jvp: typing.Callable
    x: tf.Tensor

    @functools.cached_property
    def columns(self):
        """D tensors `[N, D]`: the derivative of y with respect to each x_j."""
        n, size = tf.shape(self.x)[0], self.x.shape[-1]
        unit = tf.eye(size, dtype=self.x.dtype)
        return [self.jvp(tf.tile(unit[j:j + 1], [n, 1])) for j in range(size)]

    @functools.cached_property
    def matrix(self):
        """D by D numbers `[N]`, the derivative of y_i with respect to x_j in place `[j][i]`."""
        return [tf.unstack(column, axis=1) for column in self.columns]

    def vjp(self, u):
        u = tf.unstack(u, axis=1)
        return tf.stack([tf.add_n([a * b for a, b in zip(u, column)]) for column in self.matrix],
                        axis=1)

    def form(self, w, v):
        return self.jvp(v), w
