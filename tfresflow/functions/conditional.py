"""Functions of x and of a context beside it: `g(x; c)`, derivatives with respect to x alone."""

import dataclasses

import tensorflow as tf

from tfresflow.functions.function import Composition

__all__ = ["Conditional", "context_layers", "context_shape"]


@dataclasses.dataclass(frozen=True)
class Conditional(Composition):
    """A composition at a context `[N, ...]`: its last weight, which all that `takes_context` get.

    What it computes of an example depends on the context of that example alone, so a part of a
    batch goes with a part of this weight: `num_rows`.
    """

    takes_context = True
    num_rows = 1

    @property
    def _count(self):
        return sum(size for _, size in self.members)

    def normalized(self):
        return Conditional(super().normalized().members)

    def normalize(self, weights):
        own, context = weights[:self._count], weights[self._count:]
        return [*Composition(self.members).normalize(own), *context]

    def each(self, weights):
        if len(weights) == self._count:
            raise ValueError("`context` must be given to a branch whose layers take one, as "
                             f"{[type(f).__name__ for f, _ in self.members]}. Received: None")
        *own, context = weights
        for function, given in super().each(own):
            takes = getattr(function, "takes_context", False)
            yield function, [*given, context] if takes else given

    def gathered(self, dweights):
        own = [list(d) for d in dweights]
        of_context = [d.pop() for (f, _), d in zip(self.members, own)
                      if getattr(f, "takes_context", False)]
        return [*(d for each in own for d in each), tf.add_n(of_context)]


def context_layers(layer):
    """The layers in a Keras layer, or the layer itself, that take a context."""
    found = {id(own): own for own in layer._flatten_layers()
             if getattr(own, "context_shape", None) is not None}
    return list(found.values())


def context_shape(name, found):
    """The shape of one context, of all that take one; None if nothing does.

    Args:
      name: of the argument that holds them.
      found: objects whose `context_shape` is a tuple, or None.

    Raises:
      ValueError: if they take contexts of several shapes.
    """
    shapes = {tuple(own.context_shape) for own in found if own.context_shape is not None}
    if len(shapes) > 1:
        raise ValueError(f"`{name}` must all take contexts of one shape. Received: "
                         f"context_shape {' and '.join(map(str, sorted(shapes)))}")
    return shapes.pop() if shapes else None
