"""Copies of flows: `copy`, `copy.deepcopy`, pickle, and what Keras saves."""

import copy

import keras

from tfresflow.saving.configurable import deserialize, serialize

__all__ = ["Copied"]


class Copied:
    """Mixin of `Flow`: it is made anew from its constructor's arguments."""

    def get_config(self):
        """Constructor arguments, as Keras saves them, and which layers are frozen, if any is."""
        frozen = [i for i, layer in enumerate(self.layers) if not layer.trainable]
        return {**serialize(self.parameters), **({"frozen": frozen} if frozen else {})}

    @classmethod
    def from_config(cls, config):
        """The flow that `get_config` describes, with new weights."""
        arguments = {name: value for name, value in config.items() if name != "frozen"}
        flow = cls(**deserialize(arguments))
        for i in config.get("frozen", ()):
            flow.layers[i].trainable = False
        return flow

    def copy(self, **override_parameters):
        """As in TFP: this flow with other arguments, or with the same ones and the same weights.

        With other arguments, layers that the constructor makes start with the values of this flow's
        weights, if the shapes are the same. With none, the copy shares the weights;
        `copy.deepcopy(flow)` has weights of its own.
        """
        if not override_parameters:
            return copy.copy(self)
        new = super().copy(**override_parameters)
        for old, own in zip(self.layers, new.layers):
            if own is not old and [w.shape for w in own.weights] == [w.shape for w in old.weights]:
                own.set_weights(old.get_weights())
        return new

    def __deepcopy__(self, memo):
        # Keras copies a layer by way of its class's name, which not every class is registered by.
        classes = {type(part) for layer in self.layers for part in layer._flatten_layers()}
        names = {keras.saving.get_registered_name(c): c for c in classes}
        make, arguments = self.__reduce_ex__(4)
        with keras.saving.custom_object_scope(names):
            new = memo[id(self)] = make(*copy.deepcopy(arguments, memo))
        for layer, own in zip(_all(self.layers), _all(new.layers), strict=True):
            if not layer.trainable:  # which Keras does not copy
                own.trainable = False
        return new

    def __reduce_ex__(self, protocol):
        """For `copy`, `pickle` and processes: what the constructor of Flow made is made anew."""
        arguments = {"event_shape": self.event_shape, "layers": self.layers,
                     "parameters": self.parameters, "latent_rank": self.inverse_min_event_ndims,
                     "context_shape": self.context_shape, "name": self.name}
        plain = _base(type(self))(**arguments)
        own = {k: v for k, v in vars(self).items() if k not in vars(plain)}
        return _remade, (type(self), arguments, own)


def _all(layers):
    return [inner for layer in layers for inner in layer._flatten_layers()]


def _base(kind):
    """`Flow`, which a class comes from."""
    return next(c for c in kind.__mro__ if Copied in c.__bases__)


def _remade(kind, arguments, own):
    """A flow of a class, of arguments of `Flow` and the attributes that the class added to them."""
    flow = kind.__new__(kind)
    _base(kind).__init__(flow, **arguments)
    for name, value in own.items():
        setattr(flow, name, value)
    return flow
