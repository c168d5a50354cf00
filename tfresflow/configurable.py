"""Small frozen objects (estimators, solvers, policies) that Keras can save."""

import dataclasses

import keras

__all__ = ["Configurable", "serialize", "deserialize"]


def serialize(arguments):
    """A dictionary of constructor arguments as Keras saves it."""
    return {k: keras.saving.serialize_keras_object(v) for k, v in arguments.items()}


def deserialize(config):
    """The constructor arguments that `serialize` was given."""
    return {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}


class Configurable:
    """Mixin of dataclasses: the configuration is the fields."""

    def get_config(self):
        return serialize({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize(config))
