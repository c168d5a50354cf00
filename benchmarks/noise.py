"""For `benchmarks.variance`: log-determinant and Neumann gradient of a flow, the probes given."""

import numpy as np
import tensorflow as tf

from benchmarks.probes import kinds
from bijectors import Chain, InvertibleResidual
from tfresflow.batches.rows import dot
from tfresflow.functions.branch import functionalize
from tfresflow.functions.function import Composition

__all__ = ["TERMS", "estimator", "noise", "steps"]

TERMS = 6


def estimator(flow, x):
    """`(probes, first, mean) -> (log_det [N], gradient, u_1 of each block)`, traced.

    Args:
      probes: one `[N, ...]` a block.
      first: 1 to leave out `tr(J)`, which then is exact by a closed form and has no noise.
      mean: 1 to leave out `tr(J~)`, where the slopes with which a branch begins are their means.
    """
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]

    @tf.function(autograph=False)
    def once(probes, first, mean):
        z, total, form, products, probes = x, 0.0, 0.0, [], iter(probes)
        with tf.GradientTape() as tape:
            for step in steps(flow):
                if not isinstance(step, InvertibleResidual):
                    z = step.forward_and_log_det(z)[0]
                    continue
                v, (y, vjp, slope) = next(probes), _linearised(*functionalize(step.branch), z)
                with tape.stop_recording():
                    at_mean = tf.reduce_mean(slope, axis=range(v.shape.rank - 1)) * v
                    products.append(vjp(v) * slope)
                    u, w = products[-1], (1.0 - first) * v - products[-1]
                    total += (1.0 - first) * dot(u, v) - mean * dot(vjp(v), at_mean)
                    for k in range(2, TERMS + 1):
                        u = vjp(u) * slope
                        w += (-1) ** k * u
                        total -= (-1) ** k / k * dot(u, v)
                form += dot(vjp(w), slope * v) - mean * dot(vjp(v), at_mean)
                z += y
            form = tf.reduce_mean(form)
        gradient = tape.gradient(form, variables, unconnected_gradients="zero")
        return total, tf.concat([tf.reshape(g, [-1]) for g in gradient], 0), products

    return once


def steps(flow):
    """In the order in which data meets them."""
    if not isinstance(flow, Chain):
        return [flow]
    return [step for b in reversed(flow.bijectors) for step in steps(b)]


def _linearised(g, weights, x):
    """`(g(x), vjp, slope)` with `u^T J = vjp(u) slope`, the slope of what is before all kernels."""
    pieces, slope = list(g.each(weights)), tf.ones_like(x)
    while all(w.shape.rank == 0 for w in pieces[0][1]):
        (function, own), *pieces = pieces
        x, vjp = function.linearise(own, x)
        slope = vjp(slope)
    rest = Composition(tuple((function, len(own)) for function, own in pieces))
    return *rest.linearise([w for _, own in pieces for w in own], x), slope


def noise(once, shapes, n, draws, draw, m, first=0.0, mean=0.0):
    """Standard deviations of log_det, of its mean and of the gradient; the mean log_det."""
    rng, values, total, squares = np.random.RandomState(0), [], 0.0, 0.0
    places = np.stack([kinds(shape) for shape in shapes])

    def given(v, *left):
        own = [v[:, i].reshape(-1, *shape) for i, shape in enumerate(shapes)]
        return once([tf.constant(v, tf.float32) for v in own], *map(tf.constant, left))

    for _ in range(draws):
        found = [given(v, first, mean)[:2] for v in draw(rng, n, places, m, given)]
        value, gradient = (np.mean(own, axis=0, dtype="float64") for own in zip(*found))
        values.append(value)
        total, squares = total + gradient, squares + gradient ** 2
    variance = np.sum(squares - total ** 2 / draws) / (draws - 1)
    sds = (np.std(values, axis=0, ddof=1).mean(), np.std(np.mean(values, axis=1), ddof=1),
           max(variance, 0.0) ** 0.5)
    return np.array(sds), np.mean(values, axis=0)
