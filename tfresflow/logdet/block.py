"""A residual block as a step of a flow: `x -> x + g(x)` and its log-determinant's estimate.

The derivative of `a(z) + <d, log_det>` with respect to the estimate is d, whatever its value. So
the value may be computed where the derivative is: `value` is g alone, and in `vjp` one evaluation
of g serves the series, the log-determinant and the gradient.
"""

import dataclasses
import math

import tensorflow as tf

from tfresflow.batches.parts import in_chunks, largest_bytes
from tfresflow.batches.rows import each
from tfresflow.functions.jacobian import linearise
from tfresflow.functions.traced import shared
from tfresflow.logdet.branch_step import BranchStep, asked, is_kept, kept_shapes, value_and_kept
from tfresflow.logdet.memory import LIGHT, Tape

__all__ = ["Block", "PlaneBlock", "bounds_of", "is_in_plane"]


@dataclasses.dataclass(frozen=True, eq=False)
class Block(BranchStep):
    """A `BranchStep` with the draws of a `LogDet` at hand.

    Args:
      log_det, g, weights, inverse, adjoint, spec: see `BranchStep`.
      drawn: of the law for the number of terms.
      seed, first: of the probes, see `seeds.Part`.
    """

    drawn: tf.Tensor
    seed: tf.Tensor
    first: tf.Tensor

    @property
    def is_light(self):
        n = self.spec.shape[0]
        return n is not None and n * largest_bytes(self.g, self.weights, self.spec) <= LIGHT

    def pair(self, x, rows):
        return shared(_taped, self.log_det, self.g)(x, *self._draw(rows), self.weights)

    def vjp(self, x, rows, dz, dlog_det):
        dx, log_det, *dweights = shared(
            _gradient, self.log_det, self.g, self._chunks(rows), rows.of_weights)(
                x, dz, dlog_det, *self._draw(rows), self.weights)
        return dz + dx, log_det, self._filled(dweights)

    def release(self, x, rows, dlog_det):
        with tf.GradientTape() as tape:
            tape.watch([x, *self.weights])
            y, log_det, *ready = shared(_released, self.log_det, self.g)(
                x, dlog_det, *self._draw(rows), self.weights)
            z = x + y

        def pull(dz):
            found = tape.gradient(z, [x, *self.weights], dz, unconnected_gradients="zero")
            dx, *dweights = (a + b for a, b in zip(found, ready))
            return dx, log_det, dweights

        return z, pull

    def vijp(self, x, rows, dx, dlog_det):
        # Not earlier: d is known before dx is, and what is found would be kept until then.
        with tf.control_dependencies([dx]):
            dlog_det = tf.identity(dlog_det)
        beside, log_det, of_log_det = self.vjp(x, rows, tf.zeros_like(x), dlog_det)
        y, dz, of_value = self._push(x, rows, dx - beside)
        return x + y, dz, log_det, list(map(tf.add, of_log_det, of_value))

    def bounds(self, x, rows):
        y, lower, upper = shared(bounds_of, self.log_det, self.g, self._chunks(rows))(
            x, *self._draw(rows), self.weights)
        return x + y, lower, upper

    def _draw(self, rows):
        """What the shared functions draw from: drawn terms, seed, place of the first row."""
        return self.drawn, self.seed, self.first + tf.cast(rows.start, tf.int64)


@dataclasses.dataclass(frozen=True, eq=False)
class PlaneBlock(Block):
    """A block of the plane, for the gradient `w^T J v` with one probe: J is formed beside it.

    Args:
      prepared: of the law, see `Law.prepare`.
      v: the probe of the whole batch.
    """

    prepared: tf.Tensor
    v: tf.Tensor

    @property
    def is_light(self):
        """Whether hidden values take no more memory than training the weights does.

        That is six tensors of their size: weights, gradients, both as the norms make them, and
        the two averages of Adam.
        """
        shapes = kept_shapes(self.g, self.weights, tuple(self.spec.shape[1:]))
        kept = self.spec.shape[0] * sum(map(math.prod, shapes))
        trained = self.weights[:len(self.weights) - self.g.num_rows]
        return kept <= 6 * sum(w.shape.num_elements() for w in trained)

    def linearise(self, x, rows):
        y, *kept = shared(value_and_kept, self.g, self._chunks(rows), True)(x, self.weights)
        return x + y, lambda dz, dlog_det: self._pull(x, rows, dz, dlog_det, kept)

    def vjp(self, x, rows, dz, dlog_det):
        return self._pull(x, rows, dz, dlog_det, ())

    def _pull(self, x, rows, dz, dlog_det, kept):
        n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        v = tf.ensure_shape(self.v[rows.start:rows.start + n], x.shape)
        gradient = shared(_gradient_in_plane, self.log_det.law, self.g, self._chunks(rows))
        dx, log_det, *dweights = gradient(x, dz, dlog_det, self.prepared, v, tuple(kept),
                                          self.weights)
        return dz + dx, log_det, dweights


def is_in_plane(log_det, spec):
    """Whether the block is one for which J is formed as its gradient is: one probe, two numbers."""
    return (spec.shape.rank == 2 and spec.shape[1] == 2 and spec.shape[0] is not None
            and getattr(log_det.gradient, "is_form", False) and log_det.num_probes == 1
            and spec.dtype in (tf.float32, tf.float64))


def _taped(log_det, g, x, drawn, seed, first, weights):
    """`(g(x), log_det)`, everything kept."""
    v = log_det.draw_probes(x, seed, first)
    return Tape()(g, weights, x, v, log_det.terms(drawn), log_det.gradient)


def _gradient(log_det, g, chunks, of_weights, x, dz, dlog_det, drawn, seed, first, weights):
    """`[dx, log_det, *dweights]`, dx without the dz of the identity."""
    v = log_det.draw_probes(x, seed, first)

    def chunk(weights, x, dz, dlog_det, *v):
        # The control dependency keeps TensorFlow from sharing the first evaluation of a g that
        # is not in a function of its own with this one, or from starting this one early: either
        # would hold the memory that recomputing is there to free.
        with tf.control_dependencies([dz, dlog_det]):
            x = tf.identity(x)
        sources = [x, *asked(g, weights, of_weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y, jacobian = linearise(g, weights, x)
            value, targets = log_det.gradient.recorded(tape, jacobian, v, log_det.terms(drawn))
            tensors, cotangents = targets(dlog_det)
        dx, *dweights = tape.gradient([y, *tensors], sources, [dz, *cotangents],
                                      unconnected_gradients="zero")
        return [dx, value], dweights

    outputs, dweights = in_chunks(chunk, chunks, [x, dz, dlog_det, *v], [x.shape[1:], []], weights,
                                  sums=True, of_weights=of_weights)
    return [*outputs, *dweights]


def _released(log_det, g, x, dlog_det, drawn, seed, first, weights):
    """`[g(x), log_det, *the derivatives of <dlog_det, log_det>]`, all but g(x) constants."""
    v = log_det.draw_probes(x, seed, first)
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y, jacobian = linearise(g, weights, x)
        value, targets = log_det.gradient.recorded(tape, jacobian, v, log_det.terms(drawn))
        tensors, cotangents = targets(dlog_det)
    ready = tape.gradient(tensors, [x, *weights], cotangents, unconnected_gradients="zero")
    return [y, *map(tf.stop_gradient, [value, *ready])]


def bounds_of(log_det, g, chunks, x, drawn, seed, first, weights):
    """`[g(x), lower, upper]`."""
    def chunk(weights, x, *v):
        y, jacobian = linearise(g, weights, x)
        return [y, *log_det.terms(drawn).bounds(jacobian, v)], []

    v = log_det.draw_probes(x, seed, first)
    return in_chunks(chunk, chunks, [x, *v], [x.shape[1:], [], []], weights)[0]


def _gradient_in_plane(law, g, chunks, x, dz, dlog_det, prepared, v, kept, weights):
    """`[dx, log_det, *dweights]`: J follows from its products with v and with what is across it.

    That with v is taken anyway, as w^T J v is differentiated, and a piece of g at a time, so that
    each begins with what was kept.
    """
    def chunk(weights, x, dz, dlog_det, v, *kept):
        kept, tapes = list(kept), []
        h, t, other = x, v, tf.stack([-v[:, 1], v[:, 0]], axis=1)
        for i, (function, own) in enumerate(g.each(weights)):
            if kept and is_kept(i, function):
                h = kept.pop(0)
            with tf.GradientTape() as tape:
                tape.watch([h, t, *own])
                y, jvp = function.linearise_forward(own, h)
                product = jvp(t)
                with tape.stop_recording():
                    other = jvp(other)
            tapes.append((tape, [y, product], [h, t, *own]))
            h, t = y, product
        log_det, w = law.sum_beside(v, t, other, prepared)
        d, dweights = [dz, each(dlog_det, w)], []
        for tape, targets, sources in reversed(tapes):
            *d, = tape.gradient(targets, sources, d, unconnected_gradients="zero")
            d, dweights = d[:2], [d[2:], *dweights]
        return [d[0], log_det], g.gathered(dweights)

    outputs, dweights = in_chunks(chunk, chunks, [x, dz, dlog_det, v, *kept], [x.shape[1:], []],
                                  weights, sums=True)
    return [*outputs, *dweights]
