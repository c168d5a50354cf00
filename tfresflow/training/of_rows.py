"""How a model of a density takes data, and contexts beside them."""

import math

import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.checks.rules import check
from tfresflow.training.given import Given
from tfresflow.training.joined import parted

__all__ = ["OfRows"]


class OfRows:
    """Mixin of a model that has `flow`, and `rows_flow`, which is `joined.as_rows(flow)`."""

    @property
    def is_conditional(self):
        """Whether the flow takes a context."""
        return self.rows_flow is not self.flow and self.head is None

    @property
    def joins(self):
        """Whether what is trained on are rows of x and a context, or a label."""
        return self.rows_flow is not self.flow

    @property
    def scale_bits(self):
        """Bits/dim of the scale of x, `nbits` of images in [0, 1), 0 of levels, or None."""
        return self.nbits if getattr(self.flow, "nbits", None) is None else 0

    def size_of(self, x):
        """Dimensions of one example, in a batch as a training step sees it."""
        return math.prod(self.flow.event_shape if self.joins else x.shape[1:])

    def as_weights(self, x):
        """Floats `[N, ...]` in the dtype of the weights.

        Args:
          x: data; of a conditional model `(x, context)`, of one with a head `(x, labels)` or x; or
            rows in which they are joined, which is what it returns.
        """
        if self.joins and self.rows_flow.is_joined(x):
            return tf.cast(x, self.variable_dtype)
        x, beside = parted(x) if self.is_conditional else (
            x if self.joins and isinstance(x, tuple) else (x, None))
        if self.nbits is not None and hasattr(x, "dtype"):
            inputs.check_scaled("x", x, self.nbits, values=False)
        if self.joins:
            return self.rows_flow.joined(x, beside, self.variable_dtype)
        dtype = self.variable_dtype if self.flow_layers else None
        return inputs.as_events("x", x, self._takes()[0], dtype)

    def call(self, x):
        """`log p(x)`, `[N]`, with the model's own seed: the same at every call."""
        x = self.as_weights(x)
        return -self.compute_nll(x, self.seed_of(0, x), self.eval_flow)

    def compute_output_shape(self, input_shape):
        """`(N,)`, the shape of `log p(x)`."""
        return (input_shape[0],)

    def inverse_of(self, draw, n, context):
        """Data `[n, ...]` of latents; for each of a batch of contexts, `[n, B, ...]`.

        Args:
          draw: `n -> latents`.
          n: how many.
          context: of a conditional flow, one or a batch of them.
        """
        if not self.is_conditional:
            self._with(None, context)
            return self.flow.inverse_alone(draw(n))
        context, batch = self.rows_flow.contexts(context, self.variable_dtype)
        count = tf.shape(context)[0] if context.shape[0] is None else context.shape[0]
        x = self.flow.inverse_alone(draw(n * count), context=tf.tile(
            context, [n, *[1] * (context.shape.rank - 1)]))
        return tf.reshape(x, [n, *batch, *x.shape[1:]])

    def _given(self, method, *args, **kwargs):
        """`Given`; of a conditional flow, data and contexts are joined first."""
        given = Given(method, *args, **kwargs)
        if self.joins:
            given.join(self.rows_flow, self.nbits, self.variable_dtype)
        return given

    def _takes(self):
        """Shape of one example if it is known, and `nbits` if they are to be looked at."""
        return (getattr(self.rows_flow, "event_shape", None),
                None if self.joins else self.nbits)

    def _with(self, x, context):
        """What `as_weights` takes, of data and of a context beside it."""
        if not self.is_conditional:
            check(context is None, "context", "not be given to a flow without one", context)
            return x
        return parted(x) if context is None else (x, context)
