"""Models of densities for programs that have TensorFlow alone: a SavedModel with signatures."""

import contextlib
import functools

import keras
import tensorflow as tf

from tfresflow.functions import upkeep
from tfresflow.functions.branch import norm_layers

__all__ = ["Endpoints", "export", "named_failures"]


class Endpoints(tf.Module):
    """The functions of a model, or of a flow alone, that `tf.saved_model.save` takes.

        serve(x) -> [N]                                     of a model: `log_prob`, its own seed
        log_prob(x, seed) -> {"log_prob": [N]}              of a model, nats
        sample(n, seed) -> {"x": [n, ...]}                  of a model
        forward(x, seed) -> {"z": [N, ...], "log_det": [N]}
        inverse(z) -> {"x": [N, ...]}

    The number of examples is free. Seeds are whole numbers: the same one gives the same result.

    Args:
      model: a `FlowModel` whose flow has `event_shape` and `latent_shape`, or such a flow.
      dtype: of x and z; default that of the model, or of the flow's weights.

    Raises:
      ValueError: if the flow has no `event_shape`.

    Example:
      >>> import tensorflow as tf
      >>> import tensorflow_probability as tfp
      >>> from bijectors import Foreign
      >>> from tfresflow import serving
      >>> endpoints = serving.Endpoints(Foreign(tfp.bijectors.Scale(2.), [2]))
      >>> sorted(endpoints.by_name)         # of a flow alone; a model has more
      ['forward', 'inverse', 'serving_default']
      >>> endpoints.inverse(tf.constant([[2., 4.]]))["x"].numpy().tolist()
      [[1.0, 2.0]]
    """

    def __init__(self, model, dtype=None):
        super().__init__(name="endpoints")
        flow = getattr(model, "flow", model)
        if getattr(flow, "event_shape", None) is None:
            raise ValueError("`model` must have a flow with an `event_shape`; else give "
                             f"`export` an `input_signature`. Received: {flow}")
        dtype = dtype or getattr(model, "variable_dtype", None) or _dtype(flow)
        x = tf.TensorSpec([None, *flow.event_shape], dtype, "x")
        z = tf.TensorSpec([None, *flow.latent_shape(flow.event_shape)], dtype, "z")
        seed = tf.TensorSpec([], tf.int64, "seed")
        # Not attributes of a model, which need not be what TensorFlow can track.
        functions = _of_flow(flow, getattr(model, "eval_flow", flow), x, z, seed)
        if model is not flow:
            functions.update(_of_model(model, x, seed))
        upkeep.catch_up(norm_layers(flow.layers))
        concrete = {}
        for name, function in functions.items():
            setattr(self, name, function)
            concrete[name] = function.get_concrete_function()
        self.held = [v for function in concrete.values() for v in function.graph.variables]
        default = concrete.get("serve", concrete["forward"])
        self.by_name = {"serving_default": default, **concrete}


def export(model, path):
    """Writes a SavedModel of the `Endpoints` of a model, or of a flow alone.

    Each endpoint is a signature and a function of the module that `tf.saved_model.load` returns,
    in a program that needs neither this package, nor Keras, nor TFP. It holds the weights as they
    are when it is written; later training does not change it.

    Args:
      model: see `Endpoints`.
      path: of the folder.

    Raises:
      ValueError: if the flow has no `event_shape`.

    Example:
      >>> import tempfile
      >>> import tensorflow as tf
      >>> from bijectors import ActNorm
      >>> from tfresflow import FlowModel, serving
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     serving.export(FlowModel(ActNorm([2])), folder)
      ...     served = tf.saved_model.load(folder)
      >>> x = served.sample(16, seed=0)["x"]
      >>> x.shape, served.log_prob(x, seed=0)["log_prob"].shape
      (TensorShape([16, 2]), TensorShape([16]))
    """
    endpoints = Endpoints(model)
    tf.saved_model.save(endpoints, str(path), signatures=endpoints.by_name)


@contextlib.contextmanager
def named_failures(format):
    """Context that turns a converter's long error for missing operations into a `ValueError`.

    Args:
      format: as for `FlowModel.export`.

    Raises:
      ValueError: in place of all errors but for ImportError, ValueError and TypeError.

    Example:
      >>> from tfresflow import serving
      >>> with serving.named_failures("litert"):
      ...     raise RuntimeError("failed to legalize operation 'tf.While'")
      Traceback (most recent call last):
        ...
      ValueError: `format` must be 'tf_saved_model' for a flow with residual blocks: ...
    """
    try:
        yield
    except (ImportError, ValueError, TypeError):  # a package is missing, or an argument is wrong
        raise
    except Exception as error:
        raise ValueError(
            "`format` must be 'tf_saved_model' for a flow with residual blocks: other formats lack "
            "operations of theirs (loops, linear solves, random numbers that follow a seed). "
            f"Received: format={format!r} ({type(error).__name__})") from error


def _of_flow(flow, eval_flow, x, z, seed):
    def forward(x, seed):
        z, log_det = eval_flow.forward_and_log_det(x, _pair(seed))
        return {"z": z, "log_det": log_det}

    return {"forward": _function(forward, x, seed),
            "inverse": _function(lambda z: {"x": flow.inverse_alone(z)}, z)}


def _of_model(model, x, seed):
    return {
        "serve": _function(lambda x: model.call(x), x),
        "log_prob": _function(lambda x, seed: {"log_prob": model.log_prob(x, _pair(seed))}, x,
                              seed),
        "sample": _function(lambda n, seed: {"x": model.sample(n, _pair(seed))},
                            tf.TensorSpec([], tf.int32, "n"), seed)}


def _pair(seed):
    """What `seeds.as_seed` makes of a Python integer."""
    low = tf.constant(0x7FFFFFFF, tf.int64)
    return tf.cast(tf.stack([tf.bitwise.right_shift(seed, 31) & low, seed & low]), tf.int32)


def _function(function, *signature):
    @functools.wraps(function)
    def served(*args):
        with upkeep.kept():  # weights no longer change: none is assigned to when it serves
            return function(*args)

    return tf.function(served, signature, autograph=False)


def _dtype(flow):
    floats = [w.dtype for layer in flow.layers for w in layer.weights if "float" in w.dtype]
    return floats[0] if floats else keras.config.floatx()
