"""Keeps the output of the flow, and finds the input of each step by its inverse."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.sweep import Sweep, Swept, after, concatenated, settled
from tfresflow.saving.configurable import Configurable

__all__ = ["Reversible"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Reversible(Configurable, Sweep):
    """Keeps z alone, and takes the input of each step from its output, by the inverse.

    The memory between the passes does not grow with the depth. The gradient is as exact as the
    inverse: a residual block's is solved to the tolerance of its `solver`, and errors grow on the
    way back through steps that contract. A solve that does not converge is an error.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow, x = flows.tabular_flow([3], nblocks=2, dims=4), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Reversible(), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-3))
      True

    References: Gomez et al., The Reversible Residual Network: Backpropagation Without Storing
    Activations (2017).
    """

    def __call__(self, steps, x, rows, dlog_det, end):
        for step in steps:
            x = step.value(x, rows)
        outputs, dx = end(x)
        log_dets, dweights = [], []
        for step in reversed(steps):
            x = step.inverse(after(dx, x))
            dx, log_det, own = step.vjp(x, rows, dx, dlog_det)
            dx = settled(rows, own, dx)
            log_dets.append(log_det)
            dweights.append(own)
        return Swept(outputs, dx, tf.add_n(log_dets), concatenated(reversed(dweights)))
