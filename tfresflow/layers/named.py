"""Activations as users name them: as the command line or Keras does, by layer or by function."""

import functools

import keras
import tensorflow as tf

from tfresflow.layers import activations, sorting
from tfresflow.layers.both_signs import CLipSwish
from tfresflow.layers.linear import CONTRACTIONS, Activation, check_activation
from tfresflow.layers.pila import CPila, Pila

__all__ = ["KerasActivation", "as_activation"]

_OURS = {"clipswish": CLipSwish, "cpila": CPila, "elu": activations.ELU,
         "fullsort": sorting.FullSort, "identity": activations.Identity,
         "lcube": activations.LipschitzCube, "linear": activations.Identity,
         "lipswish": activations.LipSwish, "maxmin": sorting.MaxMin, "pila": Pila,
         "relu": activations.ReLU, "silu": activations.LipSwish, "sin": activations.Sin,
         "softplus": activations.Softplus, "swish": activations.LipSwish,
         "tanh": activations.Tanh}
_NAMES = sorted({*_OURS, *CONTRACTIONS})
_KERAS_LAYERS = {keras.layers.ReLU: "relu", keras.layers.ELU: "elu"}


@keras.saving.register_keras_serializable("tfresflow")
class KerasActivation(activations.ElementwiseLayer):
    """Layer of one of Keras's activation functions whose slope is at most 1.

    Args:
      activation: name or function, for example "softsign" or `keras.activations.sigmoid`.

    Raises:
      ValueError: if it is none of these; the message lists them.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> softsign = layers.KerasActivation("softsign")
      >>> print(softsign(tf.constant([-1.0, 0.0, 3.0])).numpy().round(2))
      [-0.5   0.    0.75]
      >>> softsign.lipschitz
      1.0
    """

    def __init__(self, activation, **kwargs):
        super().__init__(**kwargs)
        self.activation = keras.activations.get(activation)
        check_activation(self.activation)

    @property
    def function(self):
        return Activation(self.activation)

    def get_config(self):
        return {**super().get_config(), "activation": keras.activations.serialize(self.activation)}


def as_activation(act):
    """Returns `make`, where `make(dtype=...)` is a new layer of Lipschitz constant at most 1.

    Args:
      act: a layer class, as `layers.LipSwish`; a layer, which is copied; a name, of Keras or of the
        flag `--act`, where "swish" is LipSwish; an activation function of Keras or TensorFlow; or
        any function of `dtype` that returns a layer whose attribute `lipschitz` is at most 1.

    Raises:
      ValueError: for anything else, for example an activation that is steeper.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> choices = ["swish", tf.nn.relu, "softsign", layers.Sin]
      >>> [type(layers.as_activation(act)(dtype="float32")).__name__ for act in choices]
      ['LipSwish', 'ReLU', 'KerasActivation', 'Sin']
    """
    name = act.lower() if isinstance(act, str) else _name(act)
    if name in _OURS:
        return _OURS[name]
    if name in CONTRACTIONS:
        return functools.partial(KerasActivation, name)
    if isinstance(act, keras.layers.Activation):
        return as_activation(act.activation)
    make = functools.partial(_copy, act) if isinstance(act, keras.layers.Layer) else act
    try:
        layer = make(dtype="float32")  # on trial: whatever the policy is
    except (TypeError, ValueError) as error:
        raise _refusal(act) from error
    if not isinstance(layer, keras.layers.Layer) or not getattr(layer, "lipschitz", 2.0) <= 1:
        raise _refusal(act)
    return make


def _name(act):
    """That of a function of Keras or TensorFlow, or of a layer of Keras; None for others."""
    if type(act) in _KERAS_LAYERS and _choices(act) == _choices(type(act)()):
        return _KERAS_LAYERS[type(act)]
    if act is None or isinstance(act, type):
        return _KERAS_LAYERS.get(act)
    homes = keras.activations, keras.ops, tf.nn, tf.math
    return next((name for name in _NAMES for home in homes if getattr(home, name, None) is act),
                None)


def _choices(layer):
    return {k: v for k, v in layer.get_config().items() if k not in ("name", "dtype")}


def _copy(layer, dtype):
    config = {k: v for k, v in layer.get_config().items() if k != "name"}
    return type(layer).from_config(config if dtype is None else {**config, "dtype": dtype})


def _refusal(act):
    return ValueError("`act` must be a layer that says `lipschitz`, at most 1, as those of "
                      f"tfresflow.layers; or one of {', '.join(_NAMES)}. Received: act={act!r}")
