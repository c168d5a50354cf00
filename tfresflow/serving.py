"""Models of densities for programs that have TensorFlow alone: a SavedModel with signatures."""

import contextlib
import inspect

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

    Those of a conditional flow take its context after x, z or n, and `sample` gives `[n, B, ...]`
    of B contexts. The number of examples is free. Seeds are whole numbers: the same one gives the
    same result.

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
        shape = getattr(flow, "context_shape", None)
        context = [] if shape is None else [tf.TensorSpec([None, *shape], dtype, "context")]
        eval_flow = getattr(model, "eval_flow", flow)
        functions = _of_flow(flow, getattr(eval_flow, "flow", eval_flow) if context else eval_flow,
                             x, z, seed, context)
        if model is not flow:
            functions.update(_of_model(model, x, seed, context))
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


class Exported:
    """Mixin of a `keras.Model` that has a `flow`: its SavedModels have signatures.

    Example:
      >>> from tfresflow import FlowModel, serving
      >>> issubclass(FlowModel, serving.Exported)
      True
    """

    def export(self, filepath, format="tf_saved_model", verbose=None, input_signature=None,
               **kwargs):
        """As in Keras; a SavedModel has the signatures of `serving.Endpoints`, too.

        With an `input_signature` it is Keras's own, which serves `log_prob` alone. Other formats
        hold `log_prob` of flows without residual blocks: TFLite ("litert") and ONNX have neither
        the linear solves nor the random numbers of these.

        Raises:
          ValueError: if the format lacks operations of the flow.
        """
        if format == "tf_saved_model" and input_signature is None:
            export(self, filepath)
            return
        if input_signature is None:
            input_signature = [keras.InputSpec(shape=(None, *self._takes()[0]),
                                               dtype=self.variable_dtype)]
        with named_failures(format):
            super().export(filepath, format, verbose, input_signature, **kwargs)


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


def _of_flow(flow, eval_flow, x, z, seed, context):
    def forward(x, *rest):
        *context, seed = rest
        z, log_det = eval_flow.forward_and_log_det(x, _pair(seed), **_named(context))
        return {"z": z, "log_det": log_det}

    def inverse(z, *context):
        return {"x": flow.inverse_alone(z, **_named(context))}

    return {"forward": _function(forward, x, *context, seed),
            "inverse": _function(inverse, z, *context)}


def _of_model(model, x, seed, context):
    def serve(x, *context):
        return model.call((x, *context) if context else x)

    def log_prob(x, *rest):
        *context, seed = rest
        return {"log_prob": model.log_prob(x, _pair(seed), **_named(context))}

    def sample(n, *rest):
        *context, seed = rest
        return {"x": model.sample(n, _pair(seed), **_named(context))}

    n = tf.TensorSpec([], tf.int32, "n")
    return {"serve": _function(serve, x, *context),
            "log_prob": _function(log_prob, x, *context, seed),
            "sample": _function(sample, n, *context, seed)}


def _named(context):
    """The context as a keyword argument, if there is one."""
    return {"context": context[0]} if context else {}


def _pair(seed):
    """What `seeds.as_seed` makes of a Python integer."""
    low = tf.constant(0x7FFFFFFF, tf.int64)
    return tf.cast(tf.stack([tf.bitwise.right_shift(seed, 31) & low, seed & low]), tf.int32)


def _function(function, *signature):
    def served(*args):
        with upkeep.kept():  # weights no longer change: none is assigned to when it serves
            return function(*args)

    # By which TensorFlow names the arguments.
    served.__signature__ = inspect.Signature([
        inspect.Parameter(spec.name, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for spec in signature])
    return tf.function(served, signature, autograph=False)


def _dtype(flow):
    floats = [w.dtype for layer in flow.layers for w in layer.weights if "float" in w.dtype]
    return floats[0] if floats else keras.config.floatx()
