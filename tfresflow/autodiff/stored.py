"""Keeps all activations."""

import dataclasses

import keras

from tfresflow.functions.sweep import Sweep
from tfresflow.saving.configurable import Configurable

__all__ = ["Stored"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Stored(Configurable, Sweep):
    """Keeps all activations of all blocks, so each is evaluated once; takes the most memory.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> flow, x = InvertibleResidual(layers.InducedNormDense(3), [3]), tf.ones([4, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Stored(), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))          # only what is kept differs
      True
    """
