"""A residual block as a step of a flow whose state is `(x, context)`."""

import dataclasses

import tensorflow as tf

from tfresflow.functions.conditional import context_layers, context_shape
from tfresflow.functions.steps import Step

__all__ = ["with_context"]


class AtContext(Step):
    """`(x, c) -> (x + g(x; c), c)`: a block whose last weight is the context.

    The derivative with respect to the context is summed on the way back, as it goes by.

    Args:
      block: a `Block`, its last weight left out.
      context_shape: shape of one context.
    """

    def __init__(self, block, context_shape):
        self._block, self.weights, self.inverse = block, block.weights, block.inverse
        self._context_shape = context_shape
        spec = tf.TensorSpec([None, *context_shape], block.spec.dtype)
        self.is_light = self._at(spec).is_light

    def value(self, x, rows):
        x, context = x
        return self._at(context).value(x, rows), context

    def linearise(self, x, rows):
        x, context = x
        z, pull = self._at(context).linearise(x, rows)
        return (z, context), lambda dz, dlog_det: _summed(dz[1], *pull(dz[0], dlog_det))

    def vjp(self, x, rows, dz, dlog_det):
        x, context = x
        return _summed(dz[1], *self._at(context).vjp(x, rows, dz[0], dlog_det))

    def release(self, x, rows, dlog_det):
        x, context = x
        z, pull = self._at(context).release(x, rows, dlog_det)
        return (z, context), lambda dz: _summed(dz[1], *pull(dz[0]))

    def vijp(self, x, rows, dx, dlog_det):
        x, context = x
        z, dz, log_det, dweights = self._at(context).vijp(x, rows, dx[0], dlog_det)
        *dweights, of_context = dweights
        return (z, context), (dz, dx[1] - of_context), log_det, dweights

    def bounds(self, x, rows):
        x, context = x
        z, lower, upper = self._at(context).bounds(x, rows)
        return (z, context), lower, upper

    def solve(self, z, rows):
        return self.inverse(z, rows)

    def negated(self, inverse):
        """See `Block.negated`."""
        return AtContext(self._block.negated(inverse), self._context_shape)

    def _at(self, context):
        return dataclasses.replace(self._block, weights=[*self.weights, context])


def with_context(block, g):
    """The step of a block, of `(x, context)` where a layer of its branch g takes one."""
    if not block.g.num_rows:
        return block
    return AtContext(block, context_shape("g", context_layers(g)))


def _summed(dcontext, dx, log_det, dweights):
    *dweights, of_context = dweights
    return (dx, dcontext + of_context), log_det, dweights
