"""Keeps all activations."""

import dataclasses

import keras

from tfresflow.functions.sweep import Sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Stored"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Stored(Configurable, Sweep):
    """Keeps all activations of all blocks, so each is evaluated once; takes the most memory."""
