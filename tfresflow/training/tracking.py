"""Whether Keras sees the weights that it is asked to train."""

import sys
import warnings

import keras

__all__ = ["warn_unless_seen"]

_METHODS = {"call", "compute_loss", "train_step"}


def warn_unless_seen(name, layers):
    """Warns of a flow that a Keras model uses, but does not train: an attribute is not enough.

    Keras finds layers and variables in a model's attributes, and bijectors are neither.

    Args:
      name: of the flow.
      layers: the layers that hold its weights.
    """
    frames = _frames()
    if not frames:
        return
    users = [frame.f_locals["self"] for frame in frames]
    seen = {id(v) for user in users for v in user.variables}
    unseen = [v for layer in layers for v in layer.trainable_variables if id(v) not in seen]
    if unseen:
        warnings.warn_explicit(
            f"the Keras model or layer `{users[0].name}` uses the flow `{name}`, but does not see "
            f"its weights: none of {len(unseen)} will be trained or saved with it. Put the flow "
            "into a tfresflow.FlowLayer, and that into an attribute; or set trainable=False of "
            "its layers, if it is not to be trained.", UserWarning,
            frames[0].f_code.co_filename, frames[0].f_lineno,
            registry=frames[0].f_globals.setdefault("__warningregistry__", {}))


def _frames():
    """Where we are in methods of Keras layers and models, the innermost first."""
    found, frame = [], sys._getframe(2)
    while frame is not None:
        if (frame.f_code.co_name in _METHODS
                and isinstance(frame.f_locals.get("self"), keras.layers.Layer)):
            found.append(frame)
        frame = frame.f_back
    return found
