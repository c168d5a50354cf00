"""-g of a branch g, with the weights of g."""

import dataclasses

import keras

from tfresflow.functions.branch import At, PureLayer, as_composition, functionalize
from tfresflow.functions.function import Function
from tfresflow.functions.traced import is_shareable

__all__ = ["Negative", "negative"]


@dataclasses.dataclass(frozen=True)
class Negative(Function):
    """`-f(weights, x)`."""

    inner: Function

    @property
    def shareable(self):
        return is_shareable(self.inner)

    @property
    def takes_context(self):
        """Whether the last weight is a context, see `Conditional`."""
        return getattr(self.inner, "takes_context", False)

    @property
    def num_rows(self):
        return self.inner.num_rows

    def __call__(self, weights, x):
        return -self.inner(weights, x)

    def linearise(self, weights, x):
        y, vjp = self.inner.linearise(weights, x)
        return -y, lambda u: -vjp(u)

    def linearise_forward(self, weights, x):
        y, jvp = self.inner.linearise_forward(weights, x)
        return -y, lambda t: -jvp(t)

    @property
    def has_tangents(self):
        return self.inner.has_tangents

    @property
    def is_elementwise(self):
        return self.inner.is_elementwise

    @property
    def scales_input(self):
        return self.inner.scales_input

    @property
    def scales_output(self):
        return self.inner.scales_output

    def scaled(self, weights, before, after):
        return self.inner.scaled(weights, before, after)

    def each(self, weights):
        """As those of a composition, the last one negated."""
        *first, (last, own) = self.inner.each(weights)
        return [*first, (Negative(last), own)]

    def gathered(self, dweights):
        """See `Composition.gathered`."""
        return self.inner.gathered(dweights)

    def largest(self, weights, shape):
        return self.inner.largest(weights, shape)

    def output_shape(self, weights, shape):
        return self.inner.output_shape(weights, shape)


class _NegativeLayer(PureLayer, keras.layers.Layer):
    """-g of a built layer g, whose variables are its own."""

    def __init__(self, inner):
        # A `keras.Sequential` of float64 layers says float32, and casts nothing.
        super().__init__(dtype=inner.dtype_policy, autocast=False)
        self.inner, self.built = inner, True

    @property
    def function(self):
        return Negative(as_composition(self.inner)[0].normalized())

    def effective_weights(self):
        return functionalize(self.inner)[1]

    def compute_output_shape(self, input_shape):
        return self.inner.compute_output_shape(input_shape)


def negative(g):
    """-g, a Keras layer or a function as g is.

    Args:
      g: a built Keras layer, one `At` a context, or a function of x alone.
    """
    if isinstance(g, At):
        return At(negative(g.branch), g.context)
    return _NegativeLayer(g) if isinstance(g, keras.layers.Layer) else lambda x: -g(x)
