"""Keeps the input of each step."""

import dataclasses
import functools

import keras

from tfresflow.batches.parts import Chunked
from tfresflow.functions.sweep import Sweep

__all__ = ["Recomputed"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Recomputed(Chunked, Sweep):
    """Keeps the input of each step, and evaluates the step once more in the backward pass.

    The steps of a flow are its residual blocks and other bijectors. The second evaluation gives
    the log-determinant and the gradient together. A block keeps its activations if they are small:
    at most 64 KiB, or, for two-dimensional x, no more than training the weights takes.

    A residual block takes a few examples at a time, so that the activations of g stay in the cache
    of the processor: on CPUs this is faster, and the memory that a block needs while it runs does
    not grow with the batch.

    Args:
      chunk_bytes: so many examples go through g at a time that its largest activation takes at most
        this; None: 8 MiB on a CPU, 1 GiB where there is a GPU.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> flow, x = InvertibleResidual(layers.InducedNormDense(3), [3]), tf.ones([9999, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Recomputed(), autodiff.Recomputed(chunk_bytes=2 ** 14))]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))          # in one part, or in several
      True
    """

    def forward(self, step, x, rows, dlog_det):
        rows = rows._replace(chunk_bytes=self.chunk_bytes)
        if step.is_light:
            return super().forward(step, x, rows, dlog_det)
        return step.value(x, rows), functools.partial(step.vjp, x, rows, dlog_det=dlog_det)
