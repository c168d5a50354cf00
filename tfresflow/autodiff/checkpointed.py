"""Keeps the input of every k-th step."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.checks.rules import check_whole
from tfresflow.functions.steps import Composed
from tfresflow.functions.sweep import Sweep, Swept, after, concatenated, settled
from tfresflow.saving.configurable import Configurable

__all__ = ["Checkpointed"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Checkpointed(Configurable, Sweep):
    """Keeps the input of every k-th step; the others are computed once more, a segment at a time.

    Of n steps, `n/k + k` inputs are there at a time, in place of the n of `Recomputed`, for one
    more evaluation of almost every step: `3n - n/k - k + 1` in place of 2n.

    Args:
      segment: k; "auto": the square root of n, which takes the least memory, as the states of a
        flow are all of one size.

    Raises:
      ValueError: if `segment` is neither.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow, x = flows.tabular_flow([3], nblocks=8, dims=4), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Checkpointed(segment=3), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))
      True

    References: Griewank and Walther, Algorithm 799: Revolve (2000); Chen et al., Training Deep
    Nets with Sublinear Memory Cost (2016).
    """

    segment: int | str = "auto"

    def __post_init__(self):
        if self.segment != "auto":
            check_whole("segment", self.segment, 1)

    def __call__(self, steps, x, rows, dlog_det, end):
        k = self.size(len(steps))
        *segments, last = [steps[i:i + k] for i in range(0, len(steps), k)] or [[]]
        kept = []
        for segment in segments:
            kept.append((segment, x))
            x = Composed(segment).value(x, rows)
        outputs, dx, log_det, own, _ = Recomputed()(last, x, rows, dlog_det, end)
        log_dets, dweights = [log_det], [own]
        while kept:
            segment, x = kept.pop()
            inputs = [after(dx, x)]
            for step in segment[:-1]:
                inputs.append(step.value(inputs[-1], rows))
            for step in reversed(segment):
                dx, log_det, own = step.vjp(inputs.pop(), rows, dx, dlog_det)
                dx = settled(rows, own, dx)
                log_dets.append(log_det)
                dweights.append(own)
        return Swept(outputs, dx, tf.add_n(log_dets), concatenated(reversed(dweights)))

    def size(self, n):
        """k for n steps."""
        return max(1, round(math.sqrt(n))) if self.segment == "auto" else self.segment
