"""Takes the log-determinant's gradient in the forward pass."""

import dataclasses

import keras

from tfresflow.functions.sweep import Sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Released"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Released(Configurable, Sweep):
    """Takes the gradient of each log-determinant in the forward pass (equation 10).

    The activations of the series are then freed; those of g and the gradient are kept. Unlike
    `logdet.Released`, it is right for examples of different weights.

    References: Chen et al., Residual Flows (2019), section 3.2.
    """

    def forward(self, step, x, rows, dlog_det):
        return step.release(x, rows, dlog_det)
