"""Keeps all activations."""

import dataclasses

import keras

from tfresflow.autodiff.sweep import sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Stored"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Stored(Configurable):
    """Keeps all activations of all steps: each is evaluated once. The most memory."""

    def __call__(self, steps, x, rows, dlog_det, end):
        def forward(step, x):
            z, pull = step.linearise(x, rows)
            return z, lambda dz: pull(dz, dlog_det)

        return sweep(forward, steps, x, end)
