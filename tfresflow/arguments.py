"""What a model of a density is given: data without labels, a flow and a base."""

import inspect
import types

import keras
import tensorflow as tf

__all__ = ["call_with_labels", "check_trained", "examples", "peek"]


def examples(data):
    """`(x, weights [N])` of a batch as Keras gives it; labels are not looked at."""
    x, _, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is None:
        return x, tf.ones(tf.shape(x)[:1] if x.shape[0] is None else x.shape[:1])
    return x, tf.ensure_shape(tf.reshape(weights, [-1]), x.shape[:1])


def peek(x, batch_size):
    """`(batch, x)`: one batch of whatever `fit` was given, and all that it was given."""
    if isinstance(x, (tf.Tensor, keras.KerasTensor)) or hasattr(x, "__array__"):
        return x[:batch_size], x
    data = next(iter(x))
    if isinstance(x, types.GeneratorType):
        x = _put_back(data, x)
    return examples(data)[0], x


def _put_back(data, generator):
    yield data
    yield from generator


def call_with_labels(method, *args, **kwargs):
    """Calls `fit` or `evaluate`, with labels where weights have none: Keras would drop these."""
    call = inspect.signature(method).bind(*args, **kwargs)
    given = call.arguments
    if given.get("class_weight") is not None and given.get("y") is None and hasattr(
            given["x"], "__array__"):
        raise ValueError("`class_weight` must come with labels `y`. Received: y=None")
    if given.get("sample_weight") is not None and given.get("y") is None:
        given["y"] = tf.zeros(len(given["x"]))
    validation = given.get("validation_data")
    if isinstance(validation, (tuple, list)) and len(validation) == 3 and validation[1] is None:
        x, _, weights = validation
        given["validation_data"] = x, tf.zeros(len(x)), weights
    return method(*call.args, **call.kwargs)


def check_trained(model):
    """Raises `ValueError` where Keras does not see what `flow` or `base` would have trained."""
    seen = {id(v) for w in model.weights for v in (w, w.value)}
    for name in ("flow", "base"):
        variables = getattr(getattr(model, name), "trainable_variables", ())
        unseen = [v.name for v in variables if id(v) not in seen]
        if unseen:
            raise ValueError(f"`{name}` must hold its trainable variables in the layers of the "
                             "flow, or Keras does not train them (trainable=False: constants). "
                             f"Received: {unseen}")
