"""Columns of a table that are positive, or lie in an interval, to the real line."""

import dataclasses
import math
import numbers

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.support import Supported
from tfresflow.checks.sizes import as_sizes

__all__ = ["ColumnSupports"]


@keras.saving.register_keras_serializable("bijectors")
class ColumnSupports(Supported):
    """Maps each column x of a table from its support, an open interval, to the real line.

        "real"                   z = x
        "positive"               z = log x
        "softplus"               z = log(exp(x) - 1): x > 0, too, but z = x where x is large
        ("interval", low, high)  z = log(x - low) - log(high - x)

    A row with a column outside of its support has density 0 (log_det is -inf). In data to train on
    `initialize`, and so `FlowModel.fit`, refuses it. A column that is 0 now and then is not
    "positive".

    Args:
      event_shape: `[D]`.
      supports: `{column: support}`, columns counted from 0 (or, as in Python, backwards from -1),
        the others real; or a list, one for each column, with None for "real".
      name: of the bijector.

    Raises:
      ValueError: naming the column whose support is not one of these.

    Example:
      >>> from bijectors import ColumnSupports
      >>> b = ColumnSupports([3], {0: "positive", 2: ("interval", 0, 1)})
      >>> z, log_det = b.forward_and_log_det([[1., 7., 0.5], [-1., 7., 0.5]])
      >>> z[0].numpy().tolist()
      [0.0, 7.0, 0.0]
      >>> [round(float(number), 4) for number in log_det]         # log 4; no density at -1
      [1.3863, -inf]
    """

    def __init__(self, event_shape, supports, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        # As Keras saves it: a list, without the integer keys that JSON has not.
        supports = _each_column(event_shape, supports)
        parameters = dict(locals())
        super().__init__(event_shape, parameters=parameters, name=name)
        self.supports = supports
        places: dict = {}
        for column, support in enumerate(supports):
            places.setdefault(support[0], []).append(column)
        self._groups = [(np.array(columns), _KINDS[kind](*(
            np.array(ends) for ends in zip(*(supports[c][1:] for c in columns)))))
            for kind, columns in places.items()]
        order = np.concatenate([columns for columns, _ in self._groups])
        self._back = np.argsort(order)

    def _outside(self, x):
        return self._joined(lambda kind, part: (kind.outside(part),), x)[0]

    def _nearest(self, x):
        return self._joined(lambda kind, part: (kind.inner(part),), x)[0]

    def _transform(self, x):
        return self._joined(lambda kind, part: kind.transform(part), x)

    def _recover(self, z):
        return self._joined(lambda kind, part: kind.recover(part), z)

    def _complaint(self, x, outside):
        row, column = np.argwhere(outside)[0]
        return (f"column {column} of `x` must be inside its support, "
                f"{_described(self.supports[column])}. Received: {x[row, column]:g} in row {row} "
                f"({int(outside[:, column].sum())} of {len(x)} rows are outside)")

    def _joined(self, function, x):
        """What a function of a kind and its columns returns, columns in their order again."""
        parts = [function(kind, tf.gather(x, columns, axis=1)) for columns, kind in self._groups]
        return [tf.gather(tf.concat(part, 1), self._back, axis=1) for part in zip(*parts)]


@dataclasses.dataclass(frozen=True)
class _Real:
    def outside(self, x):
        return tf.zeros_like(x, tf.bool)

    def inner(self, x):
        return x

    def transform(self, x):
        return x, tf.zeros_like(x)

    def recover(self, z):
        return z, tf.zeros_like(z)


@dataclasses.dataclass(frozen=True)
class _Positive:
    def outside(self, x):
        return (x <= 0) | (x == math.inf)

    def inner(self, x):
        return tf.ones_like(x)

    def transform(self, x):
        z = tf.math.log(x)
        return z, -z

    def recover(self, z):
        return tf.exp(z), z


@dataclasses.dataclass(frozen=True)
class _Softplus(_Positive):
    def transform(self, x):
        return tfp.math.softplus_inverse(x), -tf.math.log(-tf.math.expm1(-x))

    def recover(self, z):
        return tf.math.softplus(z), tf.math.log_sigmoid(z)


@dataclasses.dataclass(frozen=True, eq=False)
class _Interval:
    """Of columns with a `low` and a `high` each."""

    low: np.ndarray
    high: np.ndarray

    def outside(self, x):
        return (x <= self.low) | (x >= self.high)

    def inner(self, x):
        return tf.zeros_like(x) + (self.low + self.high) / 2

    def transform(self, x):
        below, above = tf.math.log(x - self.low), tf.math.log(self.high - x)
        return below - above, np.log(self.high - self.low) - below - above

    def recover(self, z):
        x = self.low + (self.high - self.low) * tf.sigmoid(z)
        # Rounded to an end, it would be outside.
        dtype = x.dtype.as_numpy_dtype
        low, high = self.low.astype(dtype), self.high.astype(dtype)
        x = tf.clip_by_value(x, np.nextafter(low, high), np.nextafter(high, low))
        return x, np.log(self.high - self.low) + tf.math.log_sigmoid(z) + tf.math.log_sigmoid(-z)


_KINDS = {"real": _Real, "positive": _Positive, "softplus": _Softplus, "interval": _Interval}


def _each_column(event_shape, supports):
    """A list of lists, `[kind, *ends]`, one for each column."""
    if len(event_shape) != 1:
        raise ValueError(f"`event_shape` must be [D]. Received: event_shape={event_shape}")
    [size] = event_shape
    given = supports if isinstance(supports, dict) else dict(enumerate(supports))
    if not isinstance(supports, dict) and len(supports) != size:
        raise ValueError(f"`supports` must be a dictionary, or one for each of the {size} columns. "
                         f"Received: {len(supports)}")
    found = [["real"] for _ in range(size)]
    for column, support in given.items():
        if not isinstance(column, numbers.Integral) or not -size <= column < size:
            raise ValueError(f"`supports` must be of columns in 0..{size - 1}. "
                             f"Received: column {column!r}")
        found[int(column)] = _parsed(column, support)
    return found


def _parsed(column, support):
    support = "real" if support is None else support
    kind, *ends = support if isinstance(support, (list, tuple)) and support else [support]
    if kind in ("real", "positive", "softplus") and not ends:
        return [kind]
    if kind == "interval" and len(ends) == 2 and _is_interval(*ends):
        return [kind, *map(float, ends)]
    raise ValueError(f"`supports` of column {column} must be 'real', 'positive', 'softplus' or "
                     "('interval', low, high), low < high and both finite. "
                     f"Received: {support!r}")


def _is_interval(low, high):
    return (all(isinstance(end, numbers.Real) for end in (low, high))
            and -math.inf < low < high < math.inf)


def _described(support):
    kind, *ends = support
    return f"({ends[0]:g}, {ends[1]:g})" if ends else "(0, inf)"
