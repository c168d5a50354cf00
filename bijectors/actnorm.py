"""Activation normalisation: a learned scale and shift of each channel."""

import math
import warnings

import keras
import numpy as np
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from bijectors.start import moments
from tfresflow.checks.precision import check_float
from tfresflow.checks.sizes import as_sizes
from tfresflow.layers.film import beside, check_map

__all__ = ["ActNorm"]


@keras.saving.register_keras_serializable("bijectors")
class ActNorm(Flow):
    """`z = (x + shift) * exp(log_scale)`, one shift and log_scale for each channel (last axis).

    With a `context_shape` both have a linear function of the context added, 0 to begin with.

    The identity until `initialize(x)` sets both from data, as `FlowModel.fit` does before its first
    step. Then each channel of z has mean 0, and variance 1 if that of x is `min_variance` or more.

    A channel that is constant in the data, up to rounding, is shifted to 0 and divided by the
    larger of 1 and its size: so later rows with another number there are not blown up.

    Args:
      event_shape: shape of one x.
      per_element: one shift and log_scale for every entry of x instead of every channel.
      min_variance: x is scaled as if its variance were at least this, so that `initialize` does not
        blow up a channel that hardly varies. 0 for data whose columns have units of their own.
      dtype: of the weights.
      context_shape: `[K]`, or that of a map of such vectors, see `layers.FiLM`; None: no context.
      shift: False: there is no shift, `z = x exp(log_scale)`, which commutes with the sign of x.
        `initialize` then sets the mean square of z to 1.
      name: of the bijector.

    Raises:
      ValueError: in `initialize`, if x is not finite, or the dtype cannot hold its shift or scale.

    Warns:
      UserWarning: in `initialize`, if a channel is constant.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import ActNorm
      >>> b = ActNorm([2])
      >>> x = tf.constant([[1., 10.], [3., 14.]])         # deviations 1 and 2
      >>> b.initialize(x).numpy().round(3).tolist()
      [[-1.0, -1.0], [1.0, 1.0]]
      >>> z, log_det = b.forward_and_log_det(x)
      >>> round(float(log_det[0]), 4)                     # -log(1 * 2)
      -0.6931

    References: Kingma and Dhariwal, Glow (2018), section 3.1.
    """

    def __init__(self, event_shape, per_element=False, min_variance=0.2, dtype=None,
                 context_shape=None, shift=True, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        if context_shape is not None:
            context_shape = as_sizes("context_shape", context_shape)
            check_map("context_shape", context_shape, event_shape)
        parameters = dict(locals())
        if min_variance < 0:
            raise ValueError("`min_variance` must not be negative. "
                             f"Received: min_variance={min_variance}")
        weights = _ScaleAndShift(context_shape, bool(shift), dtype=dtype)
        check_float(weights)
        weights.build(event_shape if per_element else event_shape[-1:])
        super().__init__(event_shape, layers=[weights], parameters=parameters,
                         context_shape=context_shape, name=name)
        self.per_element = per_element
        self.min_variance = min_variance
        self._scale_and_shift = weights

    def forward_and_log_det(self, x, seed=None, *, context=None):
        log_scale, shift = self._scale_and_shift.tensors(x, context)
        return (x + shift) * tf.exp(log_scale), self._log_det(x, log_scale)

    def inverse_and_log_det(self, z, seed=None, *, context=None):
        log_scale, shift = self._scale_and_shift.tensors(z, context)
        return z * tf.exp(-log_scale) - shift, -self._log_det(z, log_scale)

    def start(self, x, weights, context=None):
        mean, variance, size = moments(x, weights, self.per_element)
        if self._scale_and_shift.shift is None:
            mean, variance = np.zeros_like(mean), variance + np.square(mean)
        dtype = x.dtype.as_numpy_dtype
        constant = variance <= np.square(4 * np.finfo(dtype).eps * size)
        scale = 1 / np.where(constant, np.maximum(size, 1),
                             np.sqrt(np.maximum(variance, self.min_variance)))
        log_scale, shift = np.log(scale).astype(dtype), -mean.astype(dtype)
        self._check(np.isfinite(shift) & np.isfinite(np.exp(log_scale)), mean, variance)
        if constant.any():
            warnings.warn(f"{self.name}: {_channels(constant)} constant in the {x.shape[0]} rows "
                          "that it starts from, and has no density. Remove it, or give more rows",
                          stacklevel=2)
        self._scale_and_shift.assign(log_scale, shift)
        return super().start(x, weights, context)

    def start_inverse(self, z, weights, context=None):
        x, weights, context = self.start(z, weights, context)
        log_scale, shift = (w.numpy() for w in self._scale_and_shift.tensors())
        # x = (z + shift) exp(log_scale) is to be the inverse, x exp(-log_scale) - shift.
        self._scale_and_shift.assign(-log_scale, -shift * np.exp(log_scale))
        return x, weights, context

    def weights_of_affine(self):
        """The Keras variables `(log_scale, shift)`; the second one None if there is no shift."""
        return self._scale_and_shift.log_scale, self._scale_and_shift.shift

    def _check(self, usable, mean, variance):
        """Raises `ValueError` unless all channels are usable."""
        if not usable.all():
            bad = tuple(np.argwhere(~usable)[0])
            raise ValueError(f"`x` cannot be normalised where it comes to {self.name}: "
                             f"{_channels(~usable)} of mean {mean[bad]} and variance "
                             f"{variance[bad]}")

    def _log_det(self, x, log_scale):
        if self.context_shape is not None:  # `[N, ...]`, some of the axes of size 1
            places = math.prod(self.event_shape) // math.prod(log_scale.shape[1:])
            return places * tf.reduce_sum(log_scale, axis=range(1, x.shape.rank))
        copies = 1 if self.per_element else tf.TensorShape(self.event_shape[:-1]).num_elements()
        return tf.fill(batch_shape(x), copies * tf.reduce_sum(log_scale))


def _channels(which):
    """The first of the channels in words, as the columns that they are where x is a table."""
    found = [tuple(i) if len(i) > 1 else i[0] for i in np.argwhere(which).tolist()]
    rest = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"column {', '.join(map(str, found[:3]))}{rest} is"


@keras.saving.register_keras_serializable("bijectors")
class _ScaleAndShift(keras.layers.Layer):
    """Holds the weights, where a `keras.Model` can see them.

    The class's name is part of the layout of weight files; one that begins with an underscore gives
    names that TensorFlow takes for no scope.
    """

    def __init__(self, context_shape=None, shift=True, name=None, **kwargs):
        super().__init__(name=name or f"scale_and_shift_{keras.backend.get_uid('scale_and_shift')}",
                         **kwargs)
        self._context_shape = context_shape
        self._names = ("log_scale", "shift") if shift else ("log_scale",)
        self.log_scale = self.shift = None

    def build(self, shape):
        for name in self._names:
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer="zeros"))
        self._kernels = [] if self._context_shape is None else [
            self.add_weight(name=f"{name}_kernel", shape=[self._context_shape[-1], *shape],
                            initializer="zeros") for name in self._names]
        self.built = True

    @property
    def started(self):
        """Whether data or training have set the weights: then they are not the identity's."""
        return any(np.any(w.numpy()) for w in self.weights)

    def assign(self, log_scale, shift):
        """Sets both, as far as they are there."""
        for name, value in zip(self._names, (log_scale, shift)):
            getattr(self, name).assign(value)

    def tensors(self, x=None, context=None):
        """`(log_scale, shift)`, of the shape of an entry or of a channel; `[N, ...]` at a context.

        Args:
          x: that they are for, `[N, ...]`.
          context: `[N, ...]`, or None.
        """
        own = [tf.convert_to_tensor(getattr(self, name)) for name in self._names]
        if context is not None:
            own = self._at(own, x, context)
        return own if self.shift is not None else (*own, tf.zeros_like(own[0]))

    def _at(self, own, x, context):
        context = beside(context, x)
        if self.log_scale.shape.rank > 1:  # for every entry
            context = context[:, 0, 0]
        return [tensor + tf.tensordot(context, kernel, 1)
                for tensor, kernel in zip(own, self._kernels)]
