"""Orders of the norms between which a layer is bounded, fixed or learned.

A branch g = W_L phi ... phi W_1 is a contraction if each layer is one from the norm that the
layer before it ends in, and the last one ends where the first began (equation 12):

    p_0 -> p_1 -> ... -> p_{L-1} -> p_0

Layers of bounded norm therefore say their codomain only; `Branch` hands each the codomain of
the one before it as its domain, so that no orders, learned ones included, can break the chain.

References: Chen et al., Residual Flows (2019), section 2.3.
"""

import dataclasses
import math
import numbers

import keras
import tensorflow as tf

from tfresflow.layers.linear import CONTRACTIONS
from tfresflow.saving.configurable import Configurable

__all__ = ["LearnedOrder", "Order", "check_chain", "check_order", "lipschitz", "unbounded"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class LearnedOrder(Configurable):
    """The order p of a norm, learned in (low, high); given as the `codomain` of a layer.

    It is trained to make the norms of the layers before and after it small, not by the loss of the
    data.

    Args:
      low, high: 1 < low < high < inf.
      initial: value of p before training.

    Raises:
      ValueError: if these are not so, or `initial` is not between `low` and `high`.

    Example:
      >>> from tfresflow import layers
      >>> order = layers.LearnedOrder(1.5, 2.5, initial=1.8)
      >>> [round(float(order(weight)), 2) for weight in (-100.0, order.raw, 100.0)]
      [1.5, 1.8, 2.5]
      >>> hidden = layers.InducedNormDense(64, codomain=order)
      >>> g = layers.Branch([hidden, layers.LipSwish(), layers.InducedNormDense(2)])  # 2 -> p -> 2

    References: Chen et al., Residual Flows (2019), section 2.3.
    """

    low: float = 1.5
    high: float = 2.5
    initial: float = 2.0

    def __post_init__(self):
        if not 1 < self.low < self.high < math.inf:
            raise ValueError("`low` and `high` must be in (1, inf), low < high. "
                             f"Received: low={self.low}, high={self.high}")
        if not self.low < self.initial < self.high:
            raise ValueError("`initial` must be between low and high. "
                             f"Received: initial={self.initial}")

    @property
    def raw(self):
        """The weight that `initial` is the order of."""
        place = (self.initial - self.low) / (self.high - self.low)
        return math.log(place / (1 - place))

    def __call__(self, raw):
        """The order from the weight, differentiable."""
        return self.low + (self.high - self.low) * tf.sigmoid(raw)


class Order:
    """The order of a norm, for the layer that comes next.

    Args:
      fixed: a number; None if it is learned.
      learned, source: a function that returns the order as a scalar tensor, and whose it is.
      lowest: that a learned one can become.
    """

    def __init__(self, fixed=None, learned=None, source=None, lowest=None):
        self.fixed, self.source = fixed, source
        self.lowest = lowest if fixed is None else fixed
        self._learned = learned

    def __call__(self):
        """A number, or a scalar tensor if it is learned."""
        return self._learned() if self.fixed is None else self.fixed

    def __eq__(self, other):
        return self.fixed == other.fixed and self.source is other.source

    def __str__(self):
        return "learned" if self.fixed is None else f"{self.fixed:g}"


def check_order(name, order):
    """Raises if `order` is not a number in [1, inf]; returns it as a float."""
    if not isinstance(order, numbers.Real) or not 1 <= order <= math.inf:
        raise ValueError(f"`{name}` must be a number in [1, inf]. Received: {name}={order!r}")
    return float(order)


def check_chain(layers, order=None):
    """Raises if the norm that a layer ends in is not the one that the next one begins with.

    Args:
      layers: of a branch, in order; those without a norm are passed over.
      order: the `Order` that they begin and end with; default, that which the last one ends in.

    Raises:
      ValueError: naming the layer.
    """
    layers = list(_flat(layers))
    ends = [layer.codomain_order for layer in layers if hasattr(layer, "codomain_order")]
    end = order or (ends[-1] if ends else Order(2.0))
    order = end
    for layer in layers:
        if hasattr(layer, "accepts") and not layer.accepts(order):
            raise ValueError(
                "`branch` must end each layer in the norm that the next one begins with, and the "
                "last one where the first began, or it is no contraction; put its layers in a "
                f"layers.Branch. Received: {layer.name} after a norm of order {order}")
        order = getattr(layer, "codomain_order", order)
    if order != end:
        raise ValueError(f"`branch` must end in the norm of order {end}. Received: {order}")


def lipschitz(layer, of=lambda layer: layer.lipschitz, unknown=1.0):
    """A Lipschitz constant of a layer: of a `keras.Sequential`, the product of those in it.

    Args:
      layer: a Keras layer.
      of: which of its constants a layer that has some is asked for.
      unknown: what counts for layers that say none.
    """
    inner = getattr(layer, "branch", None)
    if inner is not None:  # a concatenation
        return layer.lipschitz_bound(lipschitz(inner, of, unknown))
    if hasattr(layer, "lipschitz"):
        return of(layer)
    if isinstance(layer, keras.Sequential):
        return math.prod(lipschitz(sub, of, unknown) for sub in layer.layers)
    return 1.0 if isinstance(layer, _ISOMETRIES) else unknown


def unbounded(layer):
    """Layers in `layer` that may be steeper than 1 and say no Lipschitz constant.

    Those with trainable weights or a context, and activations not known to be contractions.
    """
    inner = getattr(layer, "branch", None)
    if inner is not None:
        return unbounded(inner)
    if hasattr(layer, "lipschitz"):
        return []
    if isinstance(layer, keras.Sequential):
        return [found for sub in layer.layers for found in unbounded(sub)]
    steep = (isinstance(layer, keras.layers.Activation)
             and layer.activation not in CONTRACTIONS.values())
    of_context = getattr(layer, "context_shape", None) is not None
    return [layer] if steep or of_context or layer.trainable_variables else []


_ISOMETRIES = (keras.layers.InputLayer, keras.layers.Reshape, keras.layers.Flatten,
               keras.layers.Permute)


def _flat(layers):
    """All layers, those of each `keras.Sequential` in its place."""
    for layer in layers:
        yield from _flat(layer.layers) if isinstance(layer, keras.Sequential) else [layer]
