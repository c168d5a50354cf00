"""A residual block as a step of a flow, with its whole Jacobian at hand."""

import dataclasses

import tensorflow as tf

from tfresflow.batches.parts import in_chunks, largest_bytes
from tfresflow.functions.jacobian import whole
from tfresflow.functions.traced import shared
from tfresflow.logdet.branch_step import BranchStep, asked
from tfresflow.logdet.memory import LIGHT

__all__ = ["ExactBlock"]


@dataclasses.dataclass(frozen=True, eq=False)
class ExactBlock(BranchStep):
    """A `BranchStep` of `Exact`: what is undone by a solve is undone by products with the matrix.

    Args:
      log_det: an `Exact`.
      g, weights, inverse, adjoint, spec: see `BranchStep`.
    """

    @property
    def is_light(self):
        n, largest = self.spec.shape[0], largest_bytes(self.g, self.weights, self.spec)
        return n is not None and n * self._size * largest <= LIGHT

    def pair(self, x, rows):
        return shared(_pair, self.log_det, self.g)(x, self.weights)

    def vjp(self, x, rows, dz, dlog_det):
        dx, log_det, *dweights = shared(
            _gradient, self.log_det, self.g, self._narrow(rows), rows.of_weights)(
                x, dz, dlog_det, self.weights)
        return dz + dx, log_det, self._filled(dweights)

    def vijp(self, x, rows, dx, dlog_det):
        # Not as two halves: each would have its own check that the solver has converged.
        chunks = self._narrow(rows)._replace(parallel=None)
        y, dz, log_det, *dweights = shared(
            _undone, self.log_det, self.adjoint, self.g, chunks, rows.of_weights)(
                x, dx, dlog_det, self.weights)
        return x + y, dz, log_det, self._filled(dweights)

    def bounds(self, x, rows):
        y, log_det = shared(_pair_in_chunks, self.log_det, self.g, self._narrow(rows))(
            x, self.weights)
        return x + y, log_det, log_det

    @property
    def _size(self):
        return self.spec.shape[1:].num_elements()

    def _narrow(self, rows):
        """Chunks in which each example takes D times what g does."""
        chunks = self._chunks(rows)
        parallel = chunks.parallel and max(2, chunks.parallel // self._size)
        return chunks._replace(size=max(1, chunks.size // self._size), parallel=parallel)


def _pair(log_det, g, x, weights):
    """`(g(x), log_det)`."""
    y, matrix = whole(g, weights, x)
    return y, log_det.of_jacobian(matrix)


def _pair_in_chunks(log_det, g, chunks, x, weights):
    def chunk(weights, x):
        return list(_pair(log_det, g, x, weights)), []

    return in_chunks(chunk, chunks, [x], [x.shape[1:], []], weights)[0]


def _gradient(log_det, g, chunks, of_weights, x, dz, dlog_det, weights):
    """`[dx, log_det, *dweights]`, dx without the dz of the identity."""
    def chunk(weights, x, dz, dlog_det):
        with tf.control_dependencies([dz, dlog_det]):  # see `_gradient` of a `Block`
            x = tf.identity(x)
        sources = [x, *asked(g, weights, of_weights)]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y, log_det_of_x = _pair(log_det, g, x, weights)
        dx, *dweights = tape.gradient([y, log_det_of_x], sources, [dz, dlog_det],
                                      unconnected_gradients="zero")
        return [dx, log_det_of_x], dweights

    outputs, dweights = in_chunks(chunk, chunks, [x, dz, dlog_det], [x.shape[1:], []], weights,
                                  sums=True, of_weights=of_weights)
    return [*outputs, *dweights]


def _undone(log_det, adjoint, g, chunks, of_weights, x, dx, dlog_det, weights):
    """`[g(x), dz, log_det, *dweights]`, dz the solution of `dz + J^T dz = dx - that of log_det`."""
    def chunk(weights, x, dx, dlog_det):
        with tf.control_dependencies([dx]):
            x = tf.identity(x)
        own = asked(g, weights, of_weights)
        with tf.GradientTape() as of_value, tf.GradientTape() as of_log_det:
            of_value.watch(own)
            of_log_det.watch([x, *own])
            y, matrix = whole(g, weights, x)
            value = log_det.of_jacobian(matrix)
        beside, *parts = of_log_det.gradient(value, [x, *own], dlog_det,
                                             unconnected_gradients="zero")
        dz = adjoint(_less(matrix, x, transpose_a=True), dx - beside, _less(matrix, x))
        more = of_value.gradient(y, own, dz, unconnected_gradients="zero")
        return [y, dz, value], list(map(tf.add, parts, more))

    outputs, dweights = in_chunks(chunk, chunks, [x, dx, dlog_det], [x.shape[1:], x.shape[1:], []],
                                  weights, sums=True, of_weights=of_weights)
    return [*outputs, *dweights]


def _less(matrix, x, **kwargs):
    """`u -> -matrix u`, of u as x."""
    def product(u):
        flat = tf.reshape(u, [-1, matrix.shape[-1]])
        return -tf.reshape(tf.linalg.matvec(matrix, flat, **kwargs), tf.shape(u))

    return product
