"""Keeps the input of the flow alone, and computes all else from it."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.functions.steps import Composed
from tfresflow.functions.sweep import Sweep, Swept, after, concatenated, settled
from tfresflow.saving.configurable import Configurable

__all__ = ["MemoryPoor"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class MemoryPoor(Configurable, Sweep):
    """Keeps x alone: the input of each step is computed from it anew.

    The least memory of all that is exact for any flow, for `n + n (n + 1) / 2` evaluations of n
    steps. It is here for comparison: its graph grows as the square of the depth, as its time does.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow, x = flows.tabular_flow([3], nblocks=2, dims=4), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.MemoryPoor(), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))
      True
    """

    def __call__(self, steps, x, rows, dlog_det, end):
        outputs, dx = end(Composed(steps).value(x, rows))
        log_dets, dweights = [], []
        for i in reversed(range(len(steps))):
            own = Composed(steps[:i]).value(after(dx, x), rows)
            dx, log_det, of_step = steps[i].vjp(own, rows, dx, dlog_det)
            dx = settled(rows, of_step, dx)
            log_dets.append(log_det)
            dweights.append(of_step)
        return Swept(outputs, dx, tf.add_n(log_dets), concatenated(reversed(dweights)))
