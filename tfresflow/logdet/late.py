"""The log-determinant in the backward pass, for losses in which it is a term.

The derivative of `a(z) + b log_det` with respect to the estimate is b, whatever its value. So the
value may be computed where its gradient is: the forward pass is g alone and keeps x alone, and
in the backward pass one evaluation of g serves the series, the value and the gradient.

The value leaves as a gradient, too: that with respect to a tensor of zeros, `later`.
"""

import dataclasses
import math
import typing

import tensorflow as tf

from tfresflow.batch import each
from tfresflow.derivatives import differentiable
from tfresflow.logdet.chunks import Chunks, in_chunks
from tfresflow.logdet.jacobian import linearise
from tfresflow.logdet.plain import first_order
from tfresflow.logdet.series import sum_beside, sum_series
from tfresflow.sharing import shared

__all__ = ["Late", "in_plane", "is_worth_keeping"]


@dataclasses.dataclass(frozen=True)
class Late:
    """A residual block with its weights and draws at hand: `x -> x + g(x)` and the estimate.

    Args:
      log_det: a `LogDet` with the Neumann gradient.
      g, weights: a prepared `Function` and its weights.
      chunks: how much of a batch at a time.
      keep: whether hidden values are kept for the backward pass.
      c: weights of the terms.
      coefficients: in the plane, the same as `series.rounds` has them; else None.
      v: the probe of the whole batch in the plane; None: drawn when it is used.
      seed, first: of the probes, see `seeds.Part`.
    """

    log_det: typing.Any
    g: typing.Any
    weights: list
    chunks: Chunks
    keep: bool
    c: tf.Tensor
    coefficients: tf.Tensor | None
    v: tf.Tensor | None
    seed: tf.Tensor
    first: tf.Tensor

    def __call__(self, x, later, start, halved):
        """`(x + g(x), zeros [N])`; the estimate is the gradient with respect to `later`.

        Args:
          x: `[N, ...]`.
          later: zeros `[N]`.
          start: place of the first example in the batch.
          halved: whether the other half of the batch runs at the same time.
        """
        chunks = self.chunks.of_half() if halved else self.chunks
        if self.v is None:
            draw = [self.seed, self.first + start if start else self.first]
        else:
            draw = [self.v[start:start + x.shape[0]]]
        count = len(self.weights)

        def plain(x, dz, dlog_det, *others):
            weights, (c, *draw) = list(others[:count]), others[count:]
            v = self.log_det.draw_probes(x, *draw) if self.v is None else draw
            dx, *others = first_order(self.g, self.log_det.gradient, x, v, c, dz, dlog_det, weights)
            return [dz + dx, *others]

        @tf.custom_gradient
        def call(x, later, *weights):
            y, *kept = shared(_value, self.g, chunks, self.keep)(x, list(weights))

            def backward(dz, dlog_det):
                return differentiable(fast, plain, [x, dz, dlog_det, *weights], [self.c, *draw])

            def fast(x, dz, dlog_det, *weights):
                if self.v is None:
                    dx, *others = shared(_gradient, self.log_det, self.g, chunks)(
                        x, dz, dlog_det, self.c, *draw, list(weights))
                else:
                    dx, *others = shared(_gradient_in_plane, self.g, chunks)(
                        x, dz, dlog_det, self.coefficients, *draw, tuple(kept), list(weights))
                return [dz + dx, *others]

            # Here and not in `_value`: oneDNN's kernel for `x + W h + b` has a state, and must not
            # run twice at a time, as that of a function may.
            return (x + y, tf.zeros_like(later)), backward

        return call(x, later, *self.weights)


def in_plane(log_det, spec):
    """Whether the block is one for which J is formed as its gradient is: one probe, two numbers."""
    return (spec.shape.rank == 2 and spec.shape[1] == 2 and spec.shape[0] is not None
            and log_det.num_probes == 1 and spec.dtype in (tf.float32, tf.float64))


def is_worth_keeping(g, weights, spec):
    """Whether hidden values take no more memory than training the weights does.

    That is six tensors of their size: weights, gradients, both as the norms make them, and the two
    averages of Adam.
    """
    kept = spec.shape[0] * sum(map(math.prod, _kept_shapes(g, weights, tuple(spec.shape[1:]))))
    return kept <= 6 * sum(w.shape.num_elements() for w in weights)


def _is_kept(i, function):
    """The input of what is not linear: that of a linear map follows from one at little cost."""
    return i > 0 and not function.scales_output


def _kept_shapes(g, weights, shape):
    shapes = []
    for i, (function, own) in enumerate(g.each(weights)):
        if _is_kept(i, function):
            shapes.append(shape)
        shape = function.output_shape(own, shape)
    return shapes


def _value(g, chunks, keep, x, weights):
    """`[g(x), *kept]`."""
    def chunk(x):
        y, kept = x, []
        for i, (function, own) in enumerate(g.each(weights)):
            if keep and _is_kept(i, function):
                kept.append(y)
            y = function(own, y)
        return [y, *kept], []

    shape = tuple(x.shape[1:])
    events = [shape, *(_kept_shapes(g, weights, shape) if keep else [])]
    return in_chunks(chunk, chunks, [x], events)[0]


def _gradient(log_det, g, chunks, x, dz, dlog_det, c, seed, first, weights):
    """`[dx, log_det, *dweights]`, dx without the dz of the identity."""
    v = log_det.draw_probes(x, seed, first)

    def chunk(x, dz, dlog_det, *v):
        # The control dependency keeps TensorFlow from sharing the first evaluation of a g that
        # is not in a function of its own with this one, or from starting this one early: either
        # would hold the memory that recomputing is there to free.
        with tf.control_dependencies([dz, dlog_det]):
            x = tf.identity(x)
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y, jacobian = linearise(g, weights, x)
            with tape.stop_recording():
                value, w = sum_series(jacobian, v, c)
            tensors, cotangents = log_det.gradient.targets(jacobian, v, c, w)(dlog_det)
        dx, *dweights = tape.gradient([y, *tensors], [x, *weights], [dz, *cotangents],
                                      unconnected_gradients="zero")
        return [dx, value], dweights

    outputs, dweights = in_chunks(chunk, chunks, [x, dz, dlog_det, *v], [x.shape[1:], []], weights)
    return [*outputs, *dweights]


def _gradient_in_plane(g, chunks, x, dz, dlog_det, c, v, kept, weights):
    """The same, where J follows from its products with v and with what is at right angles to it.

    That with v is taken anyway, as w^T J v is differentiated, and a piece of g at a time, so that
    each begins with what was kept.
    """
    def chunk(x, dz, dlog_det, v, *kept):
        kept, tapes = list(kept), []
        h, t, other = x, v, tf.stack([-v[:, 1], v[:, 0]], axis=1)
        for i, (function, own) in enumerate(g.each(weights)):
            if kept and _is_kept(i, function):
                h = kept.pop(0)
            with tf.GradientTape() as tape:
                tape.watch([h, t, *own])
                y, jvp = function.linearise_forward(own, h)
                product = jvp(t)
                with tape.stop_recording():
                    other = jvp(other)
            tapes.append((tape, [y, product], [h, t, *own]))
            h, t = y, product
        log_det, w = sum_beside(v, t, other, c)
        d, dweights = [dz, each(dlog_det, w)], []
        for tape, targets, sources in reversed(tapes):
            *d, = tape.gradient(targets, sources, d, unconnected_gradients="zero")
            d, dweights = d[:2], d[2:] + dweights
        return [d[0], log_det], dweights

    outputs, dweights = in_chunks(chunk, chunks, [x, dz, dlog_det, v, *kept], [x.shape[1:], []],
                                  weights)
    return [*outputs, *dweights]
