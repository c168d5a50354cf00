"""Small frozen objects (estimators, solvers, policies) that Keras can save."""

import dataclasses
import importlib
import weakref

import keras
import tensorflow as tf

__all__ = ["Configurable", "deserialize", "saved_as", "serialize", "serialize_whole"]

# Packages above this one whose classes a file may name, without their having been imported.
# Nothing else is imported because a file says so.
_COMPANIONS = ("bijectors",)

_WRAPPERS: dict = {}
# By the id of what they wrap. Keras takes all that had the same id while it saved for one object,
# so a wrapper lives as long as its value.
_ALIVE: dict = {}


def saved_as(kinds, wrapper):
    """Has `serialize` save objects of foreign classes, which Keras does not know.

    Args:
      kinds: classes, a tuple.
      wrapper: class that Keras can save: `wrapper(value).get_config()`, and `from_config`, which
        returns the value. It refers to the value weakly.
    """
    _WRAPPERS[kinds] = wrapper


def serialize(arguments):
    """A dictionary of constructor arguments as Keras saves it."""
    return {k: keras.saving.serialize_keras_object(_wrapped(v)) for k, v in arguments.items()}


def serialize_whole(arguments):
    """`serialize` for what a file holds all of: an object that is there twice is so when loaded.

    Keras sees that an object is the same when it meets it again. By then the first place may have
    been copied into the configuration of what holds it: so it is to meet each of them again.
    """
    serialize(arguments)
    return serialize(arguments)


def deserialize(config):
    """The constructor arguments that `serialize` was given."""
    _import_companions(config)
    return {k: keras.saving.deserialize_keras_object(v) for k, v in config.items()}


def _wrapped(value):
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return tuple(map(_wrapped, value)) if isinstance(value, tuple) else list(
            map(_wrapped, value))
    if hasattr(value, "get_config"):
        return value
    wrapper = next((w for kinds, w in _WRAPPERS.items() if isinstance(value, kinds)), None)
    if wrapper is None:
        return value
    if id(value) not in _ALIVE:
        _ALIVE[id(value)] = wrapper(value)
        weakref.finalize(value, _ALIVE.pop, id(value))
    return _ALIVE[id(value)]


def _import_companions(config):
    """Imports those packages whose classes a configuration names, so that Keras finds them."""
    if isinstance(config, dict):
        package = str(config.get("registered_name")).split(">")[0]
        if package in _COMPANIONS:
            importlib.import_module(package)
        config = config.values()
    if not isinstance(config, str) and hasattr(config, "__iter__"):
        for value in config:
            _import_companions(value)


class Configurable:
    """Mixin of dataclasses: the configuration is the fields.

    AutoGraph leaves `__call__` as it is: loops and conditions in it are TensorFlow's own, and to
    rewrite all that it calls would take longer than to trace it.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            cls.__call__ = tf.autograph.experimental.do_not_convert(cls.__call__)

    def get_config(self):
        """The fields, as Keras saves them."""
        return serialize({f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def from_config(cls, config):
        """The object that `get_config` describes."""
        return cls(**deserialize(config))
