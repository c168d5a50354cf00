"""The fastest strategy whose memory fits."""

import dataclasses

import keras

from tfresflow.autodiff.checkpointed import Checkpointed
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.autodiff.reversible import Reversible
from tfresflow.autodiff.saved import traced_peak
from tfresflow.autodiff.stored import Stored
from tfresflow.checks.rules import check_whole
from tfresflow.functions.sweep import Sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Auto"]

# The fastest first.
_CANDIDATES = Recomputed(), Stored(), Checkpointed(), Reversible()


@keras.saving.register_keras_serializable("tfresflow", "autodiff.Auto")
@dataclasses.dataclass(frozen=True)
class Auto(Configurable, Sweep):
    """Takes the fastest strategy whose expected peak is within a limit.

    Where a training step is traced, candidates are tried in turn, from the fastest on:
    `Recomputed`, `Stored`, `Checkpointed`, `Reversible`. The peak of each is estimated from its
    graph, as `autodiff.saved` shows it: activations of one part of a batch, on one device, without
    weights, their gradients and the optimizer.

    Args:
      memory_limit: bytes.
      batch_size: examples in one part, where the step is traced for any number, as `fit` does if
        the last batch is smaller than others; without it, the last candidate is then taken.

    Raises:
      ValueError: if an argument is no whole number of 1 or more; in a step, if no candidate fits.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import FlowModel, autodiff
      >>> flow = flows.tabular_flow([8], nblocks=4, dims=64)
      >>> model = FlowModel(flow, autodiff=autodiff.Auto(memory_limit=2 ** 30))
    """

    memory_limit: int
    batch_size: int | None = None

    def __post_init__(self):
        check_whole("memory_limit", self.memory_limit, 1)
        check_whole("batch_size", self.batch_size, 1, optional=True)

    def __call__(self, steps, x, rows, dlog_det, end):
        return self.choice(steps, x, rows, dlog_det)(steps, x, rows, dlog_det, end)

    def choice(self, steps, x, rows, dlog_det):
        """The strategy for a sweep; arguments as `Sweep.__call__` takes them."""
        del rows
        size = self.batch_size if dlog_det.shape[0] is None else dlog_det.shape[0]
        if size is None:
            return _CANDIDATES[-1]
        peaks = []
        for candidate in _CANDIDATES:
            peaks.append(traced_peak(candidate, steps, x, size))
            if peaks[-1] <= self.memory_limit:
                return candidate
        raise ValueError("`memory_limit` must be at least the least expected peak, "
                         f"{min(peaks)} bytes for {size} examples: make it larger, or "
                         f"give FlowModel micro_batches. Received: {self.memory_limit}")
