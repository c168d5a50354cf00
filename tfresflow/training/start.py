"""The rows that a model starts from, out of whatever `fit` is given, before its first step."""

import types
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.checks.beside import check_weights
from tfresflow.functions.branch import leaf_layers
from tfresflow.training.places import first_example

__all__ = ["agree", "awaits_data", "begin", "finite_rows", "from_array", "from_pipeline",
           "weights_of"]

_BYTES = 2 ** 28  # of an array, at most
_ENTRIES = 2 ** 22  # of a pipeline, about
_SPREAD = 16  # times as many batches are gone through, where there are more than are needed


def awaits_data(model):
    """Whether nothing in a model's flow is trained or set yet, by whomever."""
    trained = model.optimizer is not None and int(model.optimizer.iterations.numpy())
    return not (trained or int(model.initialized.numpy()) or any(
        getattr(layer, "started", False) for layer in leaf_layers(model.flow_layers)))


def begin(model, x, weights):
    """Sets a model's data-dependent weights from rows of what `fit` is given."""
    x, weights = finite_rows(x, weights, model.skip_nonfinite)
    inputs.check_digits("x", np.asarray(x), model.variable_dtype)
    model.initialize(x, weights)
    agree([w for layer in leaf_layers(model.flow_layers) if hasattr(layer, "started")
           for w in layer.weights], model.distribute_strategy)


def from_array(x, weights, seed=0):
    """`(x, weights)`: all rows, or, of an array past 256 MB, as many at random.

    Args:
      x: array `[N, ...]`.
      weights: `[N]` or None.
      seed: integer.
    """
    rows = max(1, _BYTES // (8 * max(1, int(np.prod(x.shape[1:])))))
    if x.shape[0] <= rows:
        return x, weights
    index = np.sort(np.random.RandomState(seed).choice(x.shape[0], rows, replace=False))
    return tf.gather(x, index) if tf.is_tensor(x) else x[index], (
        None if weights is None else np.asarray(weights)[index])


def from_pipeline(data, event_shape, strategy, steps=None, class_weight=None):
    """Several batches of a pipeline: 4 million entries, but 256 to 16,384 rows, if it has them.

    Batches of a `tf.data.Dataset` of known length, and of a `PyDataset`, are not the first ones but
    come from all of it, as far as that is cheap.

    Args:
      data: what Keras's `fit` takes, but no array.
      event_shape: of one example, or None.
      strategy: of the model. All replicas, those of other workers too, get the rows of all.
      steps: batches that will be asked for at all, or None; no more are taken but of data sets
        of TensorFlow, which begin anew each time: runs of any length start alike.
      class_weight: see Keras's `fit`.

    Returns:
      `(x, weights, data)`: what was taken from a generator is
      put back.
    """
    taken = []
    if isinstance(data, (tf.data.Dataset, tf.distribute.DistributedDataset)):
        steps = None
    if isinstance(data, tf.distribute.DistributedDataset) or _has_workers(strategy):
        batches = _of_all_replicas(data, strategy)
    elif isinstance(data, types.GeneratorType):
        batches, data = _remembered(data, taken), _put_back(taken, data)
    else:
        batches = _spread(data, steps, event_shape)
    rows, found = None, []
    for batch in batches:
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        x = np.asarray(inputs.as_events("x", x, event_shape, None))
        if weights is not None:
            check_weights("sample_weight", np.shape(weights), len(x), "x")
        weights = weights_of(y, weights, class_weight)
        found.append((x, np.ones(len(x)) if weights is None else weights))
        rows = rows or _enough(x.shape[1:])
        if sum(len(x) for x, _ in found) >= rows or len(found) == steps:
            break
    if not found:
        raise ValueError("`x` must have at least one batch.")
    x, weights = (np.concatenate(part) for part in zip(*found))
    return x, weights, data


def weights_of(labels, weights, class_weight):
    """`[N]`: weights of examples as Keras makes them of what it is given; None: all 1."""
    if weights is not None:
        return np.asarray(weights, np.float64).reshape(-1)
    if not class_weight or labels is None:
        return None
    labels = np.asarray(labels)
    labels = labels.argmax(-1) if labels.ndim > 1 and labels.shape[-1] > 1 else labels.reshape(-1)
    return np.array([class_weight.get(int(label), 1.0) for label in labels], np.float64)


def finite_rows(x, weights, tolerated):
    """`(x, weights)`, without the rows that are not finite if these are tolerated.

    Raises:
      ValueError: naming the first, if not, or if none is left.
    """
    if not tolerated:
        inputs.check_finite("x", x)
        return x, weights
    found = inputs.first_nonfinite(x)
    if found is None:
        return x, weights
    finite = np.isfinite(np.asarray(x)).reshape(x.shape[0], -1).all(axis=1)
    if not finite.any():
        inputs.check_finite("x", x)
    warnings.warn(f"{int((~finite).sum())} of the {x.shape[0]} rows that the flow starts from are "
                  f"not finite and take no part, the first one {inputs.place(found)}",
                  stacklevel=3)
    return np.asarray(x)[finite], None if weights is None else np.asarray(weights)[finite]


def agree(variables, strategy):
    """Gives the variables of all workers one value, to the last bit."""
    def mean():
        context = tf.distribute.get_replica_context()
        # Copies: what is read of a variable says no device, which TensorFlow wants to know.
        values = [tf.identity(tf.convert_to_tensor(v)) for v in variables]
        for variable, value in zip(variables, context.all_reduce("MEAN", values)):
            variable.assign(value)

    if _has_workers(strategy):
        tf.function(lambda: strategy.run(mean), autograph=False)()


def _has_workers(strategy):
    """Whether there are other processes."""
    replicas = strategy.num_replicas_in_sync
    return replicas > 1 and replicas > len(strategy.extended.worker_devices)


def _enough(event_shape):
    return int(np.clip(_ENTRIES // max(1, int(np.prod(event_shape))), 256, 2 ** 14))


def _remembered(data, taken):
    for batch in data:
        taken.append(batch)
        yield batch


def _put_back(taken, generator):
    yield from taken
    yield from generator


def _spread(data, steps, event_shape):
    """Batches from all parts of the data."""
    if isinstance(data, keras.utils.PyDataset):
        length = data.num_batches
        first = data[0]
    else:
        length = int(data.cardinality()) if isinstance(data, tf.data.Dataset) else None
        first = next(iter(data), None) if length and length > 0 else None
    if first is None or not length:
        return iter(data)
    x = keras.utils.unpack_x_y_sample_weight(first)[0]
    shape = np.shape(inputs.shaped("x", inputs.as_array("x", x), event_shape))
    wanted = min(steps or length, -(-_enough(shape[1:]) // max(1, shape[0])))
    stride = -(-length // max(1, wanted))
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(0, length, stride))
    return iter(data.shard(min(stride, _SPREAD), 0))


def _of_all_replicas(data, strategy):
    """`(x, y, weights)` of whole batches, in their order, on every worker."""
    if isinstance(data, tf.data.Dataset):
        data = strategy.experimental_distribute_dataset(data)
    iterator = iter(data)

    def share(batch):
        context = tf.distribute.get_replica_context()
        x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
        before, own = first_example(x), tf.shape(x, tf.int64)[0]
        after = context.all_reduce("SUM", own) - before - own

        def whole(t):
            # The sum of shares that are zero elsewhere; whole numbers cannot all be summed as such.
            share = t if t.dtype.is_floating else tf.cast(t, tf.float64)
            share = tf.pad(share, [[before, after], *[[0, 0]] * (t.shape.rank - 1)])
            return tf.cast(context.all_reduce("SUM", share), t.dtype)

        return [whole(tf.convert_to_tensor(t)) for t in (x, y, weights) if t is not None]

    @tf.autograph.experimental.do_not_convert
    def step(iterator):
        return strategy.run(share, (iterator.get_next(),))

    step = tf.function(step, [tf.type_spec_from_value(iterator)], autograph=False)
    while True:
        try:
            parts = step(iterator)
        except (StopIteration, tf.errors.OutOfRangeError):
            return
        yield tuple(strategy.experimental_local_results(p)[0].numpy() for p in parts)
