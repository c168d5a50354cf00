"""Objects of TFP as their class and arguments: how they are copied, pickled and saved.

TFP copies and pickles few of its objects rightly, and Keras saves none. But each of them says
the arguments that it was made of (`.parameters`), so that an equal one can be made.
"""

import inspect
import typing
import weakref

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tfresflow.saving.configurable import saved_as

__all__ = ["Parts", "Saved", "leaves"]

# The classes that are made anew: those of these modules that are of these kinds, and no other.
_FAMILIES = {"bijectors": (tfp.bijectors, tfp.bijectors.Bijector),
             "distributions": (tfp.distributions, tfp.distributions.Distribution),
             "linalg": (tf.linalg, tf.linalg.LinearOperator),
             "util": (tfp.util, tfp.util.DeferredTensor)}


class Parts(typing.NamedTuple):
    """A public class of TFP (or a `tf.linalg.LinearOperator`) and its arguments.

    Attributes:
      family: "bijectors", "distributions", "linalg" or "util".
      name: of the class.
      arguments: `{name: value}`, objects of TFP in them taken apart, too.
    """

    family: str
    name: str
    arguments: dict

    @classmethod
    def of(cls, value):
        """`value`, or what lists and dictionaries of such values hold, taken apart.

        All else is left as it is: tensors, variables, Keras layers, flows, functions.
        """
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return [cls.of(v) for v in value] if isinstance(value, list) else tuple(
                cls.of(v) for v in value)
        if isinstance(value, dict):
            return {k: cls.of(v) for k, v in value.items()}
        if hasattr(value, "get_config") or not isinstance(value, _KINDS):
            return value
        family, public = _public(value)
        if family == "util":  # `TransformedVariable` among them
            # A bijector was given: DeferredTensor keeps its `forward`.
            function = value.transform_fn
            bijector = getattr(function, "__self__", None)
            arguments = {"pretransformed_input": value.pretransformed_input,
                         "transform_fn": bijector or function, "dtype": value.dtype,
                         "shape": value.shape, "name": value.name}
        else:
            known = inspect.signature(public.__init__).parameters
            arguments = {k: v for k, v in value.parameters.items()
                         if k in known and k not in ("self", "parameters", "graph_parents")
                         and v is not known[k].default}
        return cls(family, public.__name__, {k: cls.of(v) for k, v in arguments.items()})

    def make(self):
        """An object of the class, of these arguments.

        Raises:
          ValueError: if there is no such class.
        """
        module, kind = _FAMILIES.get(self.family, (None, None))
        made = getattr(module, self.name, None)
        if not (inspect.isclass(made) and issubclass(made, kind)):
            raise ValueError("`name` must be that of a public class of TFP. "
                             f"Received: family={self.family}, name={self.name}")
        return made(**_made(self.arguments))


_KINDS = tuple(kind for _, kind in _FAMILIES.values())


def _made(value):
    if isinstance(value, Parts):
        return value.make()
    if isinstance(value, dict):
        return {k: _made(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_made(v) for v in value)
    return value


def _public(value):
    """`(family, class)` of an object; some are of a private twin, `_Chain` for `Chain`."""
    family = next(f for f, (_, kind) in _FAMILIES.items() if isinstance(value, kind))
    if family == "util":
        return family, tfp.util.DeferredTensor
    own = type(value)
    public = getattr(_FAMILIES[family][0], own.__name__.lstrip("_"), None)
    if not (inspect.isclass(public) and issubclass(public, own)):
        raise TypeError(f"{own.__module__}.{own.__name__} cannot be copied or saved: of TFP's "
                        f"{family}, only public classes can, whose arguments are known. Write a "
                        "subclass with `get_config` and `from_config`, as Keras wants them.")
    return family, public


def leaves(value):
    """All that `Parts` and lists and dictionaries of them hold and is neither."""
    if isinstance(value, Parts):
        value = value.arguments
    if not isinstance(value, (dict, list, tuple)):
        return [value]
    return [leaf for v in (value.values() if isinstance(value, dict) else value)
            for leaf in leaves(v)]


@keras.saving.register_keras_serializable("bijectors")
class Saved:
    """An object of TFP as Keras saves it; `from_config` gives the object itself.

    Numbers, arrays, tensors and variables in its arguments are saved with their values, so that
    nothing is missing that Keras does not see. Functions are not saved: to load a file runs no
    code of the file.

    Args:
      value: a distribution, a bijector or a linear operator.
    """

    def __init__(self, value):
        self._value = weakref.ref(value)

    def get_config(self):
        variables = []
        parts = Parts.of(self._value())
        tree = _config(parts, parts.name, variables)
        return {"parts": tree, "variables": [_variable(v) for v in variables]}

    @classmethod
    def from_config(cls, config):
        variables = [tf.Variable(_array(v["value"]), trainable=v["trainable"], name=v["name"])
                     for v in config["variables"]]
        return _made(_value(config["parts"], variables))


saved_as(_KINDS, Saved)


def _config(value, where, variables):
    """What JSON can hold of a value; variables are named by their place in `variables`."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Parts):
        return {"parts": [value.family, value.name], "arguments": {
            k: _config(v, f"{where}.{k}", variables) for k, v in value.arguments.items()}}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_config(v, f"{where}[{i}]", variables) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": [[k, _config(v, f"{where}[{k!r}]", variables)] for k, v in value.items()]}
    if isinstance(value, tf.Variable):
        place = next((i for i, v in enumerate(variables) if v is value), len(variables))
        variables += [value] if place == len(variables) else []
        return {"variable": place}
    if isinstance(value, tf.DType):
        return {"dtype": value.name}
    if isinstance(value, tf.TensorShape):
        return {"shape": None if value.rank is None else value.as_list()}
    if isinstance(value, (np.ndarray, np.generic)) and _has_numbers(value):
        return {"array": _numbers(value)}
    if tf.is_tensor(value) and not tf.is_symbolic_tensor(value) and _has_numbers(value):
        return {"tensor": _numbers(value.numpy())}
    if isinstance(value, (keras.layers.Layer, tfp.bijectors.Bijector)):  # a flow
        return {"keras": keras.saving.serialize_keras_object(value)}
    raise TypeError(f"`{where}` cannot be saved. Numbers, arrays, tensors, variables and other "
                    "objects of TFP can, but no functions and no networks. Save the weights alone "
                    "(`save_weights`) and load them into a model that is made anew. "
                    f"Received: {value!r}")


def _value(config, variables):
    if not isinstance(config, dict):
        return config
    if "parts" in config:
        return Parts(*config["parts"], {
            k: _value(v, variables) for k, v in config["arguments"].items()})
    (kind, held), = config.items()
    return {
        "tuple": lambda: tuple(_value(v, variables) for v in held),
        "list": lambda: [_value(v, variables) for v in held],
        "dict": lambda: {k: _value(v, variables) for k, v in held},
        "variable": lambda: variables[held],
        "dtype": lambda: tf.as_dtype(held),
        "shape": lambda: tf.TensorShape(held),
        "array": lambda: _array(held),
        "tensor": lambda: tf.constant(_array(held)),
        "keras": lambda: keras.saving.deserialize_keras_object(held),
    }[kind]()


def _has_numbers(value):
    try:
        dtype = tf.as_dtype(value.dtype)
    except TypeError:
        return False
    return dtype.is_floating or dtype.is_integer or dtype.is_bool


def _variable(variable):
    return {"value": _numbers(variable.numpy()), "trainable": variable.trainable,
            "name": variable.name.split(":")[0]}


def _numbers(array):
    """Shape, dtype and the numbers, exactly."""
    dtype = tf.as_dtype(array.dtype)
    wide = np.asarray(array).astype("float64") if dtype.is_floating else np.asarray(array)
    return {"shape": list(wide.shape), "dtype": dtype.name, "numbers": wide.ravel().tolist()}


def _array(config):
    dtype = tf.as_dtype(config["dtype"])
    numbers = np.array(config["numbers"], "float64" if dtype.is_floating else dtype.as_numpy_dtype)
    return numbers.astype(dtype.as_numpy_dtype).reshape(config["shape"])
