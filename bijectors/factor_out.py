"""Factoring out: half of the channels are done, the other half goes on."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow, start
from bijectors.flatten import flatten, unflatten
from bijectors.foreign import as_flow
from bijectors.start import some
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.beside import Moved, OnFirst, Swapped
from tfresflow.functions.steps import Composed

__all__ = ["FactorOut"]


@keras.saving.register_keras_serializable("bijectors")
class FactorOut(Flow):
    """`z = [flatten(inner(x_1)), flatten(x_2)]`, `x = [x_1, x_2]` split along the channels.

    The second half of the channels goes to the latent as it is; `inner` transforms the first. A
    multiscale flow nests several. The latent is a vector `[N, D]`.

    Args:
      inner: the flow, or bijector of TFP, of the first half of the channels.
      event_shape: `[..., C]`, C even.
      channels_first: `z = [flatten(x_2), flatten(inner(x_1))]`, flattened as `Flatten` does with
        `channels_first`: what leaves first comes first, as in the reference.
      name: of the bijector.

    Raises:
      ValueError: if C is odd or `inner` is for another shape than the first half.

    Example:
      >>> import tensorflow_probability as tfp
      >>> from bijectors import FactorOut
      >>> b = FactorOut(tfp.bijectors.Scale(2.), [1, 1, 4])
      >>> z, log_det = b.forward_and_log_det([[[[1., 2., 3., 4.]]]])
      >>> z.numpy().tolist(), round(float(log_det[0]), 4)         # 2 log 2
      ([[2.0, 4.0, 3.0, 4.0]], 1.3863)

    References: Dinh et al., Density estimation using Real NVP (2017), section 3.6.
    """

    def __init__(self, inner, event_shape, channels_first=False, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        *space, channels = event_shape
        if channels % 2:
            raise ValueError("`event_shape` must have an even number of channels. "
                             f"Received: event_shape={event_shape}")
        half = (*space, channels // 2)
        inner = parameters["inner"] = as_flow(inner, half, "inner")
        if inner.event_shape != half:
            raise ValueError(f"`inner` must be a bijector of event_shape {half}. "
                             f"Received: {inner.event_shape}")
        super().__init__(event_shape, layers=inner.layers, parameters=parameters, latent_rank=1,
                         context_shape=inner.context_shape, name=name)
        self.inner = inner
        self.channels_first = channels_first

    def forward_and_log_det(self, x, seed=None, **context):
        first, second = tf.split(x, 2, axis=-1)
        z, log_det = self.inner.forward_and_log_det(first, seed, **context)
        return self._collect(z, second), log_det

    def bind(self, seed=None, size=None, dtype=None):
        inner = map(OnFirst, self.inner.bind(seed, size, dtype).steps)
        if self.context_shape is None:
            return Composed([_Leave(), *inner, _Collect(self)])
        # The context goes with the first half.
        return Composed([OnFirst(_Leave()), Swapped(), *inner, Swapped(), OnFirst(_Collect(self))])

    def inverse_and_log_det(self, z, seed=None, **context):
        first, second = self._split(z)
        x, log_det = self.inner.inverse_and_log_det(first, seed, **context)
        return tf.concat([x, second], axis=-1), log_det

    def inverse_alone(self, z, **context):
        first, second = self._split(z)
        return tf.concat([self.inner.inverse_alone(first, **context), second], axis=-1)

    def with_log_det(self, log_det):
        return FactorOut(self.inner.with_log_det(log_det), self.event_shape, self.channels_first,
                         self.name)

    def start(self, x, weights, context=None):
        # Here, so that both halves are of the same rows.
        x, weights, context = some(x, weights, context)
        first, second = tf.split(x, 2, axis=-1)
        z, weights, context = start(self.inner, first, weights, context)
        return self._collect(z, second), weights, context

    def start_inverse(self, z, weights, context=None):
        z, weights, context = some(z, weights, context)
        first, second = self._split(z)
        x, weights, context = self.inner.start_inverse(first, weights, context)
        return tf.concat([x, second], axis=-1), weights, context

    def check_support(self, x):
        self.inner.check_support(tf.split(x, 2, axis=-1)[0])

    def named_layers(self):
        return self.inner.named_layers()

    def branches(self):
        return self.inner.branches()

    def find_nonfinite(self, x, seed=None, **context):
        return self.inner.find_nonfinite(tf.split(x, 2, axis=-1)[0], seed, **context)

    def latent_shape(self, event_shape):
        return (math.prod(event_shape),)

    def data_shape(self, latent_shape):
        return self.event_shape

    def _collect(self, z, second):
        both = [flatten(part, self.channels_first) for part in (z, second)]
        return tf.concat(both[::-1] if self.channels_first else both, axis=1)

    def _split(self, z):
        """The latents of both halves, each in the shape that it had."""
        latent = self.inner.latent_shape(self.inner.event_shape)
        both = tf.split(z, 2, axis=1)
        first, second = both[::-1] if self.channels_first else both
        return (unflatten(first, latent, self.channels_first),
                unflatten(second, self.inner.event_shape, self.channels_first))


class _Leave(Moved):
    """`x -> (x_1, x_2)`: the second half leaves, and waits beside the first for `_Collect`."""

    def value(self, x, rows):
        return tuple(tf.split(x, 2, axis=-1))

    def inverse(self, z):
        return tf.concat(z, axis=-1)


class _Collect(Moved):
    """`(z, x_2) -> [flatten(z), flatten(x_2)]`."""

    def __init__(self, flow):
        self._flow = flow

    def value(self, x, rows):
        return self._flow._collect(*x)

    def inverse(self, z):
        return self._flow._split(z)
