"""A conditional flow at a context, and the distribution that it makes."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.base import Flow
from tfresflow.checks.events import of_contexts, take
from tfresflow.checks.rules import check
from tfresflow.functions.steps import Composed, Step

__all__ = ["Given", "distribution"]

tfd = tfp.distributions


@keras.saving.register_keras_serializable("bijectors")
class Given(Flow):
    """`x -> flow(x; context)`: a conditional flow at one context, or at a batch of them.

    Made by `flow.given(context)`. For a batch of contexts `[..., *context_shape]` it is a batch of
    bijectors: x may have the same leading dimensions, others before them, or broadcast to them.

    Args:
      flow: a conditional `Flow`.
      context: `[..., *context_shape]`.
      name: of the bijector.

    Raises:
      ValueError: if `flow` takes no context, or `context` is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import toy_flow
      >>> flow = toy_flow(nblocks=1, dims=8, context_shape=3)
      >>> b = flow.given(tf.ones([5, 3]))
      >>> b.forward(tf.zeros([10, 5, 2])).shape, b.forward(tf.zeros([2])).shape
      (TensorShape([10, 5, 2]), TensorShape([5, 2]))
    """

    def __init__(self, flow, context, name=None):
        parameters = dict(locals())
        check(getattr(flow, "context_shape", None) is not None, "flow",
              "be a conditional flow, one with a `context_shape`", flow)
        super().__init__(flow.event_shape, layers=flow.layers, parameters=parameters,
                         latent_rank=len(flow.latent_shape(flow.event_shape)),
                         name=name or f"{flow.name}_given")
        self.flow = flow
        context = of_contexts(context, flow.context_shape, self._float)
        self.context = take("context", context, flow.context_shape, self._float, leading=None)
        self._rank = self.context.shape.rank - len(flow.context_shape)  # of the batch

    @property
    def batch(self):
        """The leading dimensions of the contexts, a tuple; if one is not known, a tensor."""
        known = self.context.shape[:self._rank]
        return tuple(known) if known.is_fully_defined() else tf.shape(self.context)[:self._rank]

    def forward_and_log_det(self, x, seed=None):
        return self.flow.forward_and_log_det(x, seed, context=self._beside(x))

    def bind(self, seed=None, size=None, dtype=None):
        return Composed([_Enter(self.context, self.flow.context_shape),
                         *self.flow.bind(seed, size, dtype).steps, _Leave(self)])

    def inverse_and_log_det(self, z, seed=None):
        return self.flow.inverse_and_log_det(z, seed, context=self._beside(z))

    def inverse_alone(self, z):
        return self.flow.inverse_alone(z, context=self._beside(z))

    def with_log_det(self, log_det):
        return Given(self.flow.with_log_det(log_det), self.context, self.name)

    def named_layers(self):
        return self.flow.named_layers()

    def branches(self):
        return self.flow.branches()

    def check_support(self, x):
        self.flow.check_support(x)

    def latent_shape(self, event_shape):
        return self.flow.latent_shape(event_shape)

    def data_shape(self, latent_shape):
        return self.flow.data_shape(latent_shape)

    def _beside(self, x):
        """The context of each row of `x [N, ...]`: rows go through the batch again and again."""
        shape = self.flow.context_shape
        contexts = tf.reshape(self.context, [-1, *shape])
        n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        count = tf.shape(contexts)[0] if contexts.shape[0] is None else contexts.shape[0]
        repeated = tf.tile(contexts, [n // count, *[1] * len(shape)])
        return tf.ensure_shape(repeated, [x.shape[0], *shape])

    def _look_at(self, name, x):
        """x with all the leading dimensions of the contexts."""
        x = super()._look_at(name, x)
        if not self._rank:
            return x
        event, batch = self._events[name], self.batch
        lead = x.shape.rank - len(event)
        if isinstance(batch, tuple) and x.shape[:lead].is_fully_defined():
            shape = tf.broadcast_static_shape(x.shape[:lead], tf.TensorShape(batch))
            return x if shape == x.shape[:lead] else tf.broadcast_to(x, [*shape, *event])
        shape = tf.broadcast_dynamic_shape(tf.shape(x)[:lead], batch)
        return tf.broadcast_to(x, tf.concat([shape, event], axis=0))


class _Enter(Step):
    """`x -> (x, context of each row)`."""

    weights = ()

    def __init__(self, context, shape):
        self._contexts = tf.reshape(context, [-1, *shape])

    def value(self, x, rows):
        count = tf.shape(self._contexts)[0]
        context = tf.gather(self._contexts, rows.places % count)
        return x, tf.ensure_shape(context, [x.shape[0], *self._contexts.shape[1:]])

    def linearise(self, x, rows):
        return self.value(x, rows), lambda dz, dlog_det: (dz[0], 0 * dlog_det, [])

    def vijp(self, x, rows, dx, dlog_det):
        z = self.value(x, rows)
        return z, (dx, tf.zeros_like(z[1])), 0 * dlog_det, []

    def inverse(self, z):
        return z[0]


class _Leave(Step):
    """`(z, context) -> z`."""

    weights = ()

    def __init__(self, given):
        self._given = given

    def value(self, x, rows):
        return x[0]

    def linearise(self, x, rows):
        z, context = x
        return z, lambda dz, dlog_det: ((dz, tf.zeros_like(context)), 0 * dlog_det, [])

    def vijp(self, x, rows, dx, dlog_det):
        return x[0], dx[0], 0 * dlog_det, []

    def inverse(self, z):
        return z, self._given._beside(z)


def distribution(flow, context=None, base=None):
    """The distribution of data that a flow makes of a base, at given contexts.

    Args:
      flow: a `Flow`.
      context: of a conditional flow, `[..., *context_shape]`: the batch shape of the distribution
        is that of the contexts.
      base: a `tfd.Distribution` of one latent, without a batch shape; default standard normal.

    Returns:
      A `tfd.TransformedDistribution`, with `log_prob` and `sample`. Where the flow's
      log-determinant is a stochastic estimate, so is `log_prob`: `flow.with_log_det(Exact())`.

    Raises:
      ValueError: see `Given`.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import distribution
      >>> from bijectors.flows import toy_flow
      >>> posterior = distribution(toy_flow(nblocks=1, dims=8, context_shape=3), tf.ones([5, 3]))
      >>> posterior.sample(100, seed=0).shape, posterior.log_prob(tf.zeros([5, 2])).shape
      (TensorShape([100, 5, 2]), TensorShape([5]))
    """
    bijector = flow if context is None else flow.given(context)
    check(bijector.context_shape is None, "context", "be given to a conditional flow", context)
    latent = bijector.latent_shape(bijector.event_shape)
    if base is None:
        base = tfd.Sample(tfd.Normal(tf.zeros([], bijector._float or "float32"), 1.0), latent)
    if context is not None:
        base = tfd.BatchBroadcast(base, bijector.batch)
    return tfd.TransformedDistribution(base, tfp.bijectors.Invert(bijector))
