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

__all__ = ["is_small", "linearise", "whole"]


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


def whole(g, weights, x):
    """`(g(x), dg/dx)` of a `Function`, `[N, ...]` and `[N, D, D]`; differentiable to any order.

    The unit vectors go through g beside x, piece by piece; backward, where a piece of g has no
    tangents of its own.
    """
    size, y = x.shape[1:].num_elements(), x
    if not all(function.has_tangents for function, _ in g.each(weights)):
        return g(weights, x), _backward(g, weights, x)
    t = tf.reshape(tf.eye(size, dtype=x.dtype), [1, size, *x.shape[1:]])
    for function, own in g.each(weights):
        y, t = _carried(function, own, y, t)
    matrix = tf.linalg.matrix_transpose(tf.reshape(t, [-1, size, size]))
    return y, matrix + tf.zeros([_count(x), 1, 1], x.dtype)


def _backward(g, weights, x):
    """`dg/dx`, a row of it for each unit vector."""
    size, first = x.shape[1:].num_elements(), len(weights) - g.num_rows
    rows = [*weights[:first], *(_repeated(w, size) for w in weights[first:])]
    vjp = g.linearise(rows, _repeated(x, size))[1]
    units = tf.reshape(tf.eye(size, dtype=x.dtype), [size, *x.shape[1:]])
    return tf.reshape(vjp(tf.tile(units, [_count(x), *[1] * (x.shape.rank - 1)])),
                      [-1, size, size])


def _carried(function, weights, x, t):
    """`(y, dy/dx t)` of t `[N, D, ...]`, or `[1, D, ...]` while it is the same for all examples.

    A linear map does not look at x, and what acts on each number by itself has the same slope for
    all D; anything else is given each x D times.
    """
    size = t.shape[1]
    if function.is_elementwise:
        y, jvp = function.linearise_forward(weights, x)
        return y, t * jvp(tf.ones_like(y))[:, tf.newaxis]
    if function.scales_output:
        y, jvp = function.linearise_forward(weights, x)
    else:
        *own, context = weights if getattr(function, "takes_context", False) else [*weights, None]
        rows = own if context is None else [*own, _repeated(context, size)]
        y, jvp = function(weights, x), function.linearise_forward(rows, _repeated(x, size))[1]
        t = t + tf.zeros([_count(x), *[1] * (t.shape.rank - 1)], t.dtype)
    t = jvp(tf.reshape(t, [-1, *t.shape[2:]]))
    return y, tf.reshape(t, [-1, size, *t.shape[1:]])


def _count(x):
    return tf.shape(x)[0] if x.shape[0] is None else x.shape[0]


def _repeated(x, size):
    """Each example `size` times."""
    copies = tf.tile(x[:, tf.newaxis], [1, size, *[1] * (x.shape.rank - 1)])
    return tf.reshape(copies, [-1, *x.shape[1:]])
