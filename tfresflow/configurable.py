"""Small frozen objects (estimators, solvers, policies) that Keras can save."""

import dataclasses
import numbers

import keras

__all__ = ["Configurable", "check_count", "deserialize", "serialize"]


def check_count(config, name, least, optional=False):
    """Raises `ValueError` unless an attribute is a whole number, or None if it is optional."""
    value = getattr(config, name)
    if optional and value is None:
        return
    if not isinstance(value, numbers.Integral) or value < least:
        rule = f"at least {least}, a whole number" + (", or None" if optional else "")
        raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}")


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
