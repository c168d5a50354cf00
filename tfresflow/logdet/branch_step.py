"""The step `x -> x + g(x)` of a residual block, but for its log-determinant."""

import dataclasses
import typing

import tensorflow as tf

from tfresflow.batches import threads
from tfresflow.batches.parts import chunks_of, in_chunks
from tfresflow.functions.negative import Negative
from tfresflow.functions.steps import Step
from tfresflow.functions.traced import shared

__all__ = ["BranchStep", "asked", "is_kept", "kept_shapes", "value_and_kept"]


@dataclasses.dataclass(frozen=True, eq=False)
class BranchStep(Step):
    """Base of the steps of residual blocks, with the weights at hand.

    Args:
      log_det: an estimator.
      g, weights: a normalized `Function` and its weights.
      inverse: `z -> x`, in chunks of a second argument, `Rows`, where that is given.
      adjoint: a linear solver, `(matvec, b, adjoint) -> z` with `z = matvec(z) + b`.
      spec: of the batch, the size None where it is not known.
    """

    log_det: typing.Any
    g: typing.Any
    weights: list
    inverse: typing.Callable
    adjoint: typing.Callable
    spec: tf.TensorSpec

    def value(self, x, rows):
        [y] = shared(value_and_kept, self.g, self._chunks(rows), False)(x, self.weights)
        # Here and not in a shared function: oneDNN's kernel for `x + W h + b` has a state, and must
        # not run twice at a time, as that of a function may.
        return x + y

    def linearise(self, x, rows):
        with tf.GradientTape() as tape:
            tape.watch([x, *self.weights])
            y, log_det = self.pair(x, rows)
            z = x + y

        def pull(dz, dlog_det):
            dx, *dweights = tape.gradient([z, log_det], [x, *self.weights], [dz, dlog_det],
                                          unconnected_gradients="zero")
            return dx, log_det, dweights

        return z, pull

    def pair(self, x, rows):
        """`(g(x), log_det)`, which a tape differentiates, everything kept."""
        raise NotImplementedError(f"{type(self).__name__}.pair")

    def value_vjp(self, x, rows, dz):
        dx, *dweights = shared(_gradient_of_value, self.g, self._chunks(rows), rows.of_weights)(
            x, dz, self.weights)
        return dz + dx, self._filled(dweights)

    def value_vijp(self, x, rows, dx):
        return self._push(x, rows, dx)[1:]

    def solve(self, z, rows):
        return self.inverse(z, rows)

    def negated(self, inverse):
        """The step `x -> x - g(x)`, with the same draws.

        Args:
          inverse: its inverse, as that of the step.
        """
        return dataclasses.replace(self, g=Negative(self.g), inverse=inverse)

    def _push(self, x, rows, dx):
        """`(g(x), dz, dweights)` of a loss of z alone, from dx."""
        # Not as two halves: the solver's steps are few, and small.
        chunks = self._chunks(rows)._replace(parallel=None)
        y, dz, *dweights = shared(_pushed, self.adjoint, self.g, chunks, rows.of_weights)(
            x, dx, self.weights)
        return y, dz, self._filled(dweights)

    def _filled(self, dweights):
        """With zeros for the weights that nothing was asked of."""
        missing = len(self.weights) - len(dweights)
        return [*map(tf.zeros_like, self.weights[:missing]), *dweights]

    def _chunks(self, rows):
        chunks = chunks_of(self.g, self.weights, self.spec, rows.chunk_bytes)
        # Of two threads, each is on its way with half of the batch.
        if threads.are_prepared():
            chunks = chunks._replace(size=max(1, chunks.size // 2), parallel=None)
        return chunks


def is_kept(i, function):
    """The input of what is not linear: that of a linear map follows from one at little cost."""
    return i > 0 and not function.scales_output


def kept_shapes(g, weights, shape):
    shapes = []
    for i, (function, own) in enumerate(g.each(weights)):
        if is_kept(i, function):
            shapes.append(shape)
        shape = function.output_shape(own, shape)
    return shapes


def value_and_kept(g, chunks, keep, x, weights):
    """`[g(x), *kept]`."""
    def chunk(weights, x):
        y, kept = x, []
        for i, (function, own) in enumerate(g.each(weights)):
            if keep and is_kept(i, function):
                kept.append(y)
            y = function(own, y)
        return [y, *kept], []

    shape = tuple(x.shape[1:])
    events = [shape, *(kept_shapes(g, weights, shape) if keep else [])]
    return in_chunks(chunk, chunks, [x], events, weights)[0]


def asked(g, weights, of_weights):
    """The weights by which derivatives are taken: all, or rows alone, which are cut with x."""
    return weights if of_weights else weights[len(weights) - g.num_rows:]


def _gradient_of_value(g, chunks, of_weights, x, dz, weights):
    """`[dx, *dweights]` of g alone."""
    def chunk(weights, x, dz):
        with tf.control_dependencies([dz]):  # see `_gradient` of a `Block`
            x = tf.identity(x)
        sources = [x, *asked(g, weights, of_weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = g(weights, x)
        dx, *dweights = tape.gradient(y, sources, dz, unconnected_gradients="zero")
        return [dx], dweights

    outputs, dweights = in_chunks(chunk, chunks, [x, dz], [x.shape[1:]], weights, sums=True,
                                  of_weights=of_weights)
    return [*outputs, *dweights]


def _pushed(adjoint, g, chunks, of_weights, x, b, weights):
    """`[g(x), dz, *dweights]`, dz the solution of `dz + J^T dz = b`, and `dweights` its g's."""
    def chunk(weights, x, b):
        own = asked(g, weights, of_weights)
        with tf.GradientTape() as tape:
            tape.watch(own)
            y = g(weights, x)
        vjp = g.linearise(weights, x)[1]
        dz = adjoint(lambda u: -vjp(u), b, lambda t: -g.linearise_forward(weights, x)[1](t))
        return [y, dz], tape.gradient(y, own, dz, unconnected_gradients="zero")

    outputs, dweights = in_chunks(chunk, chunks, [x, b], [x.shape[1:]] * 2, weights, sums=True,
                                  of_weights=of_weights)
    return [*outputs, *dweights]
