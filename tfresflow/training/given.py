"""What a model of a density is given: data without labels, a flow and a base."""

import inspect
import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.checks.beside import check_labels, check_weights
from tfresflow.checks.rules import check
from tfresflow.checks.traced import checks
from tfresflow.training import start
from tfresflow.training.joined import joined_data

__all__ = ["Given", "check_trained", "examples", "one_batch"]

_PARTS = ("x", "y", "sample_weight")
# What users call them, by the name of the whole.
_NAMES = {"x": _PARTS, "validation_data": tuple(f"validation_data[{i}]" for i in range(3))}


def examples(data):
    """`(x, weights [N])` of a batch as Keras gives it; labels are not looked at."""
    x, _, weights = keras.utils.unpack_x_y_sample_weight(data)
    if weights is None:
        return x, tf.ones(tf.shape(x)[:1] if x.shape[0] is None else x.shape[:1])
    check_weights("sample_weight", weights.shape, x.shape[0], "x")
    weights = tf.reshape(weights, [-1])
    equal = []
    if x.shape[0] is None:  # or a single weight would be that of all rows
        counts = tf.shape(weights)[0], tf.shape(x)[0]
        equal = checks(tf.equal(*counts), "`sample_weight` must be one number for each row of `x`. "
                       "Received, weights and rows:", *counts)
    with tf.control_dependencies(equal):
        return x, tf.ensure_shape(weights, x.shape[:1])


def one_batch(x, y, weights):
    """What `train_on_batch` is given, x as a tensor; all found to be of as many rows."""
    inputs.check_rows("x", x)
    return x, y, _beside("x", x.shape[0], y, weights)


class Given:
    """The arguments of `fit`, `evaluate` or `predict`: checked, and as Keras takes them.

    Args:
      method: Keras's.
      *args, **kwargs: what it is called with.
    """

    def __init__(self, method, *args, **kwargs):
        signature = inspect.signature(method)
        given = signature.bind(*args, **kwargs).arguments
        given.update(given.pop("kwargs", {}))
        self._given, self._trains = given, "epochs" in signature.parameters
        self._takes_labels = "y" in signature.parameters

    @property
    def cached(self):
        """Whether Keras calls, with data that it has prepared before."""
        return self._given.get("_use_cached_eval_dataset", False)

    @property
    def steps(self):
        """Batches of an epoch, or of an evaluation, that are asked for; None: all."""
        return self._given.get("steps_per_epoch" if self._trains else "steps")

    def check_without_data(self):
        """Raises `ValueError` for what has no meaning where a model draws its samples."""
        for name in ("y", "validation_data", "sample_weight", "class_weight"):
            check(self._given.get(name) is None, name, "be None where the model draws its samples",
                  self._given.get(name))

    def draw(self, drawn):
        """Takes samples for data.

        Args:
          drawn: `(batch_size, steps) -> pipeline`.
        """
        self._given["x"] = drawn(self._given.pop("batch_size", None), self.steps)
        if self._trains:
            self._given["shuffle"] = False

    @property
    def array(self):
        """x as `check` made it, None where it is a pipeline."""
        x = self._given.get("x")
        return x if _is_array(x) else None

    def join(self, joined, nbits, dtype):
        """Replaces data and contexts by rows of both, see `joined.py`."""
        given = self._given
        if self.cached:
            return
        given["x"] = joined_data(joined, "x", given.get("x"), given.get("y"), nbits, dtype,
                                 optional=joined.what == "label" and not self._takes_labels)
        if given.get("validation_data") is not None:
            x, y, weights = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
            x = joined_data(joined, "validation_data", x, y, nbits, dtype)
            given["validation_data"] = x if weights is None else (x, y, weights)

    def check(self, event_shape, nbits, finite):
        """Makes arrays of what is one, and looks at them; parts them by `validation_split`.

        Args:
          event_shape: of one example, or None for any.
          nbits: of images in [0, 1], or None.
          finite: whether arrays must be finite.

        Raises:
          ValueError: an argument is not right, in one line.
        """
        given = self._given
        parts = (given.get(name) for name in _PARTS)
        parts = _checked("x", *parts, event_shape, nbits, finite, self._trains)
        given |= {name: part for name, part in zip(_PARTS, parts) if part is not None}
        if given.get("class_weight") is not None and given.get("y") is None and _is_array(
                given["x"]):
            raise ValueError("`class_weight` must come with labels `y`. Received: y=None")
        if given.get("validation_data") is not None:
            parts = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
            given["validation_data"] = _checked("validation_data", *parts, event_shape, nbits, True,
                                                True)
        elif given.get("validation_split") and _is_array(given["x"]):
            count = len(given["x"])
            first = math.floor(count * (1 - given["validation_split"]))
            if 0 < first < count:  # else Keras says what is wrong
                del given["validation_split"]
                parts = [given.get(name) for name in _PARTS]
                given["validation_data"] = tuple(p if p is None else p[first:] for p in parts)
                given |= {n: p[:first] for n, p in zip(_PARTS, parts) if p is not None}

    def sample(self, event_shape, strategy, seed):
        """`(x, weights)`: rows to start from, as `start.from_array` and `from_pipeline` take them.

        Weights are None where there are none.
        """
        given = self._given
        x, y, weights = (given.get(name) for name in _PARTS)
        classes = given.get("class_weight")
        if _is_array(x):
            return start.from_array(x, start.weights_of(y, weights, classes), seed)
        steps = given.get("steps_per_epoch")
        if steps is not None:
            steps *= max(1, given.get("epochs", 1) - given.get("initial_epoch", 0))
        x, weights, given["x"] = start.from_pipeline(x, event_shape, strategy, steps, classes)
        return x, weights

    def for_keras(self, dtype):
        """The arguments by name.

        Keras casts arrays of floats to its own float type. Those of wider floats, for a flow of as
        wide ones, become a data set, which it leaves as it is.

        Args:
          dtype: of the flow's weights.
        """
        given = dict(self._given)
        batch_size = given.get("batch_size") or 32
        validation = given.get("validation_data")
        if isinstance(validation, tuple) and _is_narrowed(validation[0], dtype):
            own = given.pop("validation_batch_size", None) or batch_size
            given["validation_data"] = _batches(*validation, own)
        if _is_narrowed(given["x"], dtype):
            steps = given.get("steps_per_epoch")
            if steps and not given.get("batch_size"):
                batch_size = -(-len(given["x"]) // steps)
            parts = [given.pop(name, None) for name in _PARTS]
            given.pop("batch_size", None)
            shuffle = given.pop("shuffle", True) and self._trains
            given["x"] = _batches(*parts, batch_size, shuffle)
            if self._trains:
                given["shuffle"] = False
        return given


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


def _checked(name, x, y, weights, event_shape, nbits, finite, trains):
    """`(x, y, weights)` as Keras takes them."""
    array = inputs.as_array(name, x)
    if array is None:
        inputs.check_pipeline(name, x, event_shape)
        return x, y, weights
    array = inputs.shaped(name, array, event_shape)
    inputs.check_rows(name, array)
    if finite:
        inputs.check_finite(name, array, getattr(x, "columns", None))
    if nbits is not None:
        inputs.check_scaled(name, array, nbits, trains)
    weights = _beside(name, array.shape[0], y, weights)
    if weights is not None:
        inputs.check_finite(_NAMES[name][2], weights)
        y = tf.zeros(array.shape[0]) if y is None else y  # Keras would drop weights without labels
    return array, y, weights


def _beside(name, count, y, weights):
    """The weights as an array, found to be as many as there are rows, as are the labels."""
    rows, of_labels, of_weights = _NAMES[name]
    check_labels(of_labels, y, count, rows)
    if weights is not None:
        weights = inputs.as_array(of_weights, weights)
        check_weights(of_weights, weights.shape, count, rows)
    return weights


def _is_array(x):
    return tf.is_tensor(x) or isinstance(x, np.ndarray)


def _is_narrowed(x, dtype):
    """Whether Keras would cast x to a narrower type than that of the weights."""
    return _is_array(x) and (keras.config.floatx() != dtype == "float64" == tf.as_dtype(
        x.dtype).name)


def _batches(x, y, weights, batch_size, shuffle=False):
    parts = tuple(p for p in (x, y, weights) if p is not None)
    count = len(x)
    rows = tf.data.Dataset.range(count)
    rows = rows.shuffle(count) if shuffle else rows
    with tf.device("CPU"):
        parts = [tf.convert_to_tensor(p) for p in parts]
    return rows.batch(batch_size).map(
        lambda i: tuple(tf.gather(p, i) for p in parts) if len(parts) > 1 else tf.gather(
            parts[0], i), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
