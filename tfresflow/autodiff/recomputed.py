"""Keeps the input of each step."""

import dataclasses

import keras

from tfresflow.autodiff.sweep import sweep
from tfresflow.batches.parts import Chunked

__all__ = ["Recomputed"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Recomputed(Chunked):
    """Keeps the input of each step, and evaluates the step once more in the backward pass.

    That evaluation serves the series, the log-determinant and the gradient together. Steps whose
    activations are as good as free (`Step.is_light`: no more than 64 KiB, or, in the plane, than
    training the weights takes) keep them.

    A residual block takes a few examples at a time, so that the activations of g stay in the cache
    of the processor: on CPUs this is faster, and the memory that a block needs while it runs does
    not grow with the batch.

    Args:
      chunk_bytes: of the largest activation of g at a time; None: 8 MiB on a CPU, 1 GiB where
        there is a GPU.
    """

    def __call__(self, steps, x, rows, dlog_det, end):
        rows = rows._replace(chunk_bytes=self.chunk_bytes)

        def forward(step, x):
            if step.is_light:
                z, pull = step.linearise(x, rows)
                return z, lambda dz: pull(dz, dlog_det)
            return step.value(x, rows), lambda dz: step.vjp(x, rows, dz, dlog_det)

        return sweep(forward, steps, x, end)
