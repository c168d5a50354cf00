"""Data and contexts as one: a training step cuts, counts and sends around rows of one tensor."""

import collections.abc
import math
import types

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.checks.beside import check_codes
from tfresflow.checks.events import of_contexts, of_shape, take
from tfresflow.checks.rules import check
from tfresflow.functions.beside import Moved
from tfresflow.functions.steps import Composed, bind
from tfresflow.training import start

__all__ = ["Joined", "as_rows", "joined_data", "parted"]


def as_rows(flow, labelled=False):
    """The flow, or, of one that takes a context, a `Joined`; with labels beside x, a `Labelled`."""
    if labelled:
        return Labelled(flow)
    return flow if getattr(flow, "context_shape", None) is None else Joined(flow)


class Joined:
    """A conditional flow as one of rows `[x, context]`, both flat: `[N, D + K]`.

    Args:
      flow: a flow with `event_shape` and `context_shape`.
    """

    what = "context"

    def __init__(self, flow):
        self._set(flow, flow.context_shape)

    def _set(self, flow, shape):
        self.flow, self.layers = flow, flow.layers
        self._shapes = tuple(flow.event_shape), tuple(shape)
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.event_shape = (sum(self._sizes),)

    def join(self, x, context):
        """Rows of tensors, or of NumPy arrays."""
        if isinstance(x, np.ndarray) and isinstance(context, np.ndarray):
            return np.concatenate([t.reshape(len(t), size) for t, size in
                                   zip((x, context), self._sizes)], axis=1)
        return tf.concat([tf.reshape(t, [t.shape[0] or -1, size])
                          for t, size in zip((x, context), self._sizes)], axis=1)

    def apart(self, rows):
        """`(x, context)` of rows."""
        parts = tf.split(rows, self._sizes, axis=1)
        return tuple(tf.reshape(t, [rows.shape[0] or -1, *shape])
                     for t, shape in zip(parts, self._shapes))

    def is_joined(self, x):
        """Whether x is a tensor, or an array, of rows."""
        shape = getattr(x, "shape", None)
        return shape is not None and len(shape) == 2 and shape[1] == self.event_shape[0]

    def joined(self, x, context, dtype):
        """`join` of what a user gives; a single context is that of all rows."""
        x = inputs.as_events("x", x, self._shapes[0], dtype)
        given, batch = self.contexts(context, dtype)
        if not batch:
            n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
            given = tf.tile(given, [n, *[1] * (given.shape.rank - 1)])
        check(given.shape[:1].is_compatible_with(x.shape[:1]), "context",
              f"have one row for each of x, {x.shape[0]}", f"shape {tuple(given.shape)}")
        return self.join(x, given)

    def contexts(self, context, dtype):
        """`([B, *context_shape], [B])` of a batch of contexts; `([1, ...], [])` of a single one."""
        shape = self._shapes[1]
        check(context is not None, "context",
              f"be given, of shape [{', '.join(['...', *map(str, shape)])}]", context)
        context = of_contexts(context, shape, dtype)
        context = take("context", context, shape, dtype, leading=None)
        if context.shape.rank == len(shape):
            return context[None], []
        batch = context.shape[0] if context.shape[0] is not None else tf.shape(context)[0]
        return of_shape("context", context, shape), [batch]

    def forward_and_log_det(self, rows, seed=None):
        """`(z, log_det)` of the flow."""
        x, context = self.apart(rows)
        return self.flow.forward_and_log_det(x, seed, **self._named(context))

    def bind(self, seed, size, dtype):
        """The step of the flow, as one of rows."""
        step = bind(self.flow, seed, size, dtype)
        return Composed([_Apart(self), *step.steps, _Alone(self)])

    def initialize(self, rows, weights=None):
        """As that of the flow."""
        x, context = self.apart(rows)
        if hasattr(self.flow, "initialize"):
            self.flow.initialize(x, weights, **self._named(context))

    def find_nonfinite(self, rows, seed):
        """As that of the flow."""
        x, context = self.apart(rows)
        return self.flow.find_nonfinite(x, seed, **self._named(context))

    def check_support(self, rows):
        """As that of the flow."""
        self.flow.check_support(self.apart(rows)[0])

    def _named(self, context):
        """Keyword arguments of the flow."""
        return {"context": context}


class Labelled(Joined):
    """Any flow as one of rows `[x, label]`, of which it sees x alone; -1 where there is no label.

    Args:
      flow: a flow with `event_shape`.
    """

    what, num_classes = "label", 2 ** 31

    def __init__(self, flow):
        self._set(flow, ())

    def bind(self, seed, size, dtype):
        """The step of the flow, as one of rows."""
        return Composed([_Apart(self), _Alone(self), *bind(self.flow, seed, size, dtype).steps])

    def joined(self, x, labels, dtype):
        """`join` of what a user gives; without labels, where they do not count."""
        if labels is not None:
            return super().joined(x, labels, dtype)
        x = inputs.as_events("x", x, self._shapes[0], dtype)
        n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        return self.join(x, tf.fill([n], tf.constant(-1, x.dtype)))

    def _named(self, context):
        return {}


class _Apart(Moved):
    """`rows -> (x, context)`."""

    def __init__(self, joined):
        self._joined = joined

    def value(self, x, rows):
        return self._joined.apart(x)

    def inverse(self, z):
        return self._joined.join(*z)


class _Alone(Moved):
    """`(x, context) -> x`: what is beside x is needed no more."""

    def __init__(self, joined):
        self._shape = joined._shapes[1]

    def value(self, x, rows):
        return x[0]

    def inverse(self, z):
        n = tf.shape(z)[0] if z.shape[0] is None else z.shape[0]
        return z, tf.zeros([n, *self._shape], z.dtype)


def parted(x, y=None, what="context", name="x"):
    """`(x, context)` of what stands for both.

    Args:
      x: a pair, or a dictionary with the keys "x" and "context"; or data alone.
      y: the context of data alone.
      what: "context", or "label": then only a pair, or data and y, are taken.
      name: of the argument, for errors.

    Raises:
      ValueError: if there is no context.
    """
    if what == "label":
        x, y = x if isinstance(x, tuple) and len(x) == 2 else (x, y)
        check(y is not None, "y", "be the labels, for a model with a head", y)
        return x, y
    if isinstance(x, collections.abc.Mapping):
        check(set(x) == {"x", "context"}, name, "have the keys 'x' and 'context'",
              sorted(map(str, x)))
        return x["x"], x["context"]
    if isinstance(x, tuple) and len(x) == 2:
        return x
    check(y is not None, name, "be (x, context), or {'x': x, 'context': context}, for a "
          "conditional flow", type(x).__name__)
    return x, y


def joined_data(joined, name, x, y, nbits, dtype, optional=False):
    """What `fit` and the like are given, as rows: an array, or a pipeline of batches of rows.

    Args:
      joined: a `Joined`.
      name: of the argument, for errors.
      x, y: see `parted`; or a pipeline of batches of such, or, with the attribute `joined_rows`,
        of rows.
      nbits: of images in [0, 1], or None.
      dtype: of the flow's weights.
      optional: whether labels may be missing.

    Raises:
      ValueError: if a part of it is not what it should be.
    """
    def rows(x, y=None, looked_at=True):
        if optional and y is None and not isinstance(x, tuple):
            y = np.full(len(x), -1) if hasattr(x, "__len__") else -tf.ones(tf.shape(x)[:1])
        x, beside = parted(x, y, joined.what, name)
        parts, found = {"x": x, joined.what: beside}, []
        for key, shape in zip(parts, joined._shapes):
            own = f"{name}: {key}" if name != key else name
            array = inputs.as_array(own, parts[key])
            check(array is not None, own, "be one array of numbers", parts[key])
            array = inputs.shaped(own, array, shape)
            if looked_at:
                inputs.check_finite(own, array, getattr(parts[key], "columns", None))
                inputs.check_digits(own, np.asarray(start.from_array(array, None)[0]), dtype)
                if key == "context" and hasattr(joined.flow, "check_context"):
                    joined.flow.check_context(array)
                if key == "x" and nbits is not None:
                    inputs.check_scaled(own, array, nbits, True)
                if key == "label":
                    check_codes(own, array, joined.num_classes, least=-1 if optional else 0)
            found.append(array.astype(dtype) if isinstance(array, np.ndarray) else
                         tf.cast(array, dtype))
        check(found[0].shape[:1] == found[1].shape[:1] or None in
              (found[0].shape[0], found[1].shape[0]), f"{name}: {joined.what}",
              f"have one row for each of x, {found[0].shape[0]}", f"shape {found[1].shape}")
        return joined.join(*found)

    def batch(*data):
        """A batch of a pipeline, as Keras takes it apart."""
        x, y, weights = keras.utils.unpack_x_y_sample_weight(data[0] if len(data) == 1 else data)
        found = rows(x, y, looked_at=False)
        return (found,) if weights is None else (found, tf.zeros(tf.shape(found)[:1]), weights)

    if getattr(x, "joined_rows", False):  # as whoever has made them says
        return x
    if isinstance(x, tf.data.Dataset):
        # AutoGraph would bury an error under the lines that it has made.
        return x.map(tf.autograph.experimental.do_not_convert(_unpacked(batch, x.element_spec)),
                     tf.data.AUTOTUNE)
    if isinstance(x, types.GeneratorType):
        return (batch(data) for data in x)
    if isinstance(x, keras.utils.PyDataset):
        return _JoinedDataset(x, batch)
    return rows(x, y)


def _unpacked(batch, spec):
    """`batch` as `tf.data` calls it: a tuple as several arguments."""
    return batch if isinstance(spec, tuple) else lambda data: batch(data)


class _JoinedDataset(keras.utils.PyDataset):
    """Batches of another one, joined."""

    def __init__(self, dataset, batch):
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self._dataset, self._batch = dataset, batch

    def __len__(self):
        return len(self._dataset)

    def __getitem__(self, i):
        return self._batch(self._dataset[i])

    def on_epoch_end(self):
        self._dataset.on_epoch_end()
