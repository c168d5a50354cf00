"""Composition of bijectors."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.base import Flow, batch_shape, start
from bijectors.foreign import as_flow
from tfresflow.batches import seeds
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.beside import OnFirst
from tfresflow.functions.conditional import context_shape
from tfresflow.functions.steps import Composed

__all__ = ["Chain"]


@keras.saving.register_keras_serializable("bijectors")
class Chain(Flow):
    """`z = b_1(b_2(...b_K(x)))`, as `tfb.Chain` and function composition order it.

    Differs from `tfb.Chain`: each bijector runs once for its value and log-determinant, each gets a
    seed of its own that follows from `seed`, and `layers` lists the layers of all. The bijectors
    may be TFP's own, with variables or without (see `Foreign`). A chain is conditional if one of
    them is, and gives all of those its context.

    Args:
      bijectors: list, the last one applied first.
      event_shape: shape of one x; default, that of the last bijector.
      name: of the chain.

    Raises:
      ValueError: if `bijectors` is no list or empty, or one does not fit the shape that it gets.

    Example:
      >>> import tensorflow_probability as tfp
      >>> from bijectors import Chain, Squeeze
      >>> double, shift = tfp.bijectors.Scale(2.), tfp.bijectors.Shift(1.)
      >>> b = Chain([shift, double, Squeeze([2, 2, 1])])          # z = 1 + 2 squeeze(x)
      >>> z, log_det = b.forward_and_log_det([[[[1.], [2.]], [[3.], [4.]]]])
      >>> z.numpy().tolist(), round(float(log_det[0]), 4)         # 4 log 2
      ([[[[3.0, 5.0, 7.0, 9.0]]]], 2.7726)
    """

    def __init__(self, bijectors, event_shape=None, name=None):
        parameters = dict(locals())
        if not isinstance(bijectors, (list, tuple)) or not bijectors:
            raise ValueError("`bijectors` must be a list of at least one bijector. "
                             f"Received: {bijectors}")
        members = list(_members(bijectors))
        if event_shape is None:
            if not isinstance(members[-1], Flow):
                raise ValueError("`event_shape` must be given where the last of `bijectors` is "
                                 f"one of TFP's own. Received: {bijectors[-1]}")
            event_shape = members[-1].event_shape
        event_shape = as_sizes("event_shape", event_shape)
        steps, latent = _fitted(reversed(members), event_shape)
        parameters["bijectors"] = steps[::-1]
        super().__init__(event_shape, layers=[layer for b in steps for layer in b.layers],
                         parameters=parameters, latent_rank=len(latent), name=name,
                         context_shape=context_shape("bijectors", steps))
        self.bijectors = steps[::-1]
        self._steps = steps

    @property
    def nbits(self):
        """Of a chain that begins with a `Dequantize`, its `nbits`, else None."""
        return self._steps[0].nbits

    def forward_and_log_det(self, x, seed=None, **context):
        total = tf.zeros(batch_shape(x), x.dtype)
        for bijector, own in zip(self._steps, self._seeds(seed)):
            x, log_det = bijector.forward_and_log_det(x, own, **_given(bijector, context))
            total += log_det
        return x, total

    def bind(self, seed=None, size=None, dtype=None):
        with self._up_to_date():
            bound = [b.bind(own, size, dtype or self._float)
                     for b, own in zip(self._steps, self._seeds(seed))]
        if self.context_shape is None:
            return Composed(bound)
        return Composed([step if b.context_shape is not None else OnFirst(step)
                         for b, own in zip(self._steps, bound) for step in own.steps])

    def inverse_and_log_det(self, z, seed=None, **context):
        total = tf.zeros(batch_shape(z), z.dtype)
        for bijector, own in zip(self.bijectors, reversed(self._seeds(seed))):
            z, log_det = bijector.inverse_and_log_det(z, own, **_given(bijector, context))
            total += log_det
        return z, total

    def inverse_alone(self, z, **context):
        for b in self.bijectors:
            z = b.inverse_alone(z, **_given(b, context))
        return z

    def with_log_det(self, log_det):
        return Chain([b.with_log_det(log_det) for b in self.bijectors], self.event_shape, self.name)

    def start(self, x, weights, context=None):
        for b in self._steps:
            x, weights, context = start(b, x, weights, context)
        return x, weights, context

    def start_inverse(self, z, weights, context=None):
        for b in self.bijectors:
            z, weights, context = b.start_inverse(z, weights, context)
        return z, weights, context

    def check_support(self, x):
        # What comes after the first has what that one makes of all in its own support.
        self._steps[0].check_support(x)

    def named_layers(self):
        return {f"{i}/{name}": layers for i, b in enumerate(self._steps)
                for name, layers in b.named_layers().items()}

    def branches(self):
        return {f"{i}/{name}": g for i, b in enumerate(self._steps)
                for name, g in b.branches().items()}

    def find_nonfinite(self, x, seed=None, **context):
        for i, (b, own) in enumerate(zip(self._steps, self._seeds(seed))):
            found = b.find_nonfinite(x, own, **_given(b, context))
            if found:
                return f"{i}/{found}"
            x = b.forward_and_log_det(x, own, **_given(b, context))[0]
        return None

    def latent_shape(self, event_shape):
        return _shape_after(self._steps, event_shape)

    def data_shape(self, latent_shape):
        for b in self.bijectors:
            latent_shape = tuple(b.inverse_event_shape(latent_shape))
        return latent_shape

    def _seeds(self, seed):
        """One for each step, in the order in which x meets them."""
        return seeds.split(seeds.as_seed(seed), len(self._steps))


def _given(bijector, context):
    """Keyword arguments: a conditional flow gets the context."""
    return {} if bijector.context_shape is None else context


def _members(bijectors):
    """The bijectors, a `tfb.Chain` replaced by its members."""
    for b in bijectors:
        # `Chain` is a subclass of what TFP makes where not all members are `CompositeTensor`s.
        chain = hasattr(b, "bijectors") and issubclass(tfp.bijectors.Chain, type(b))
        yield from _members(b.bijectors) if chain else [b]


def _fitted(steps, shape):
    """`(flows, shape of one z)` of bijectors in the order in which x, of `shape`, meets them."""
    flows, made = [], {}
    for i, b in enumerate(steps):
        # A member that is there twice is one flow: its variables are trained once.
        flow = made.get((id(b), shape)) or as_flow(b, shape, "bijectors")
        made[id(b), shape] = flow
        if flow.event_shape != shape:
            raise ValueError(f"`bijectors`: the one applied in place {i} ({flow.name}) takes "
                             f"event_shape {flow.event_shape}. Received: {shape}")
        flows.append(flow)
        shape = _shape_after([flow], shape)
    return flows, shape


def _shape_after(steps, shape):
    for b in steps:
        shape = tuple(b.forward_event_shape(shape))
    return shape
