"""A residual branch as a pure, hashable function of its weights.

Estimators and solvers call a branch many times and need its derivatives. Both are simple
when the branch is `g(weights, x)` with nothing captured: the weights are read, normalised
and differentiated once, however often g runs. And because equal branches are equal
functions, what is built on one (`traced.shared`) is traced once for all blocks of a shape.
"""

import dataclasses
import typing
import warnings

import keras
import tensorflow as tf

from tfresflow.checks.precision import check_float
from tfresflow.functions import upkeep
from tfresflow.functions.conditional import Conditional
from tfresflow.functions.function import Composition, Opaque
from tfresflow.functions.traced import shared

__all__ = ["At", "ContextLayer", "PureLayer", "functionalize", "has_state", "leaf_layers",
           "norm_layers", "as_composition", "update_norms", "warn_of_states"]


class PureLayer:
    """Mixin of Keras layers that are a `Function` of `effective_weights()`.

    A subclass defines `function` (a property) and `effective_weights()`; one that overrides `call`
    instead is treated as any other Keras layer.

    Raises:
      ValueError: if `dtype` is neither float32 nor float64.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        check_float(self)

    @property
    def function(self):
        """This layer as a `Function` of its effective weights and the input."""
        raise NotImplementedError(f"{type(self).__name__}.function")

    def effective_weights(self):
        """The tensors that `function` needs; none by default."""
        return []

    def call(self, inputs):
        if not inputs.dtype.is_floating:  # Keras casts floats alone
            inputs = tf.cast(inputs, self.compute_dtype)
        return self.function(self.effective_weights(), inputs)

    def raw_function(self):
        """`(function, weights)` of a function whose `pieces` are taken apart in a branch."""
        return self.function, self.effective_weights()


class ContextLayer(PureLayer):
    """Mixin of those that are a function of x and of a context, and keep the shape of x.

    `function` has the attribute `takes_context`, and gets the context as its last weight. A
    subclass sets `context_shape`, that of one context, before it is built.
    """

    def call(self, inputs, context=None):
        if context is None:
            if isinstance(inputs, keras.KerasTensor):  # a Sequential that is being built
                return inputs
            raise ValueError(f"`context` must be given to {self.name}, [N, "
                             f"{', '.join(map(str, self.context_shape))}]. Received: None")
        return self.function([*self.effective_weights(), context], inputs)

    def compute_output_shape(self, inputs_shape, context_shape=None):
        """That of the input."""
        return inputs_shape


@dataclasses.dataclass(frozen=True, eq=False)
class At:
    """A branch at a context, as a function of x: what an estimator of log-determinants takes as g.

    Args:
      branch: a Keras layer, in which a layer takes a context.
      context: `[N, ...]`.
    """

    branch: typing.Any
    context: tf.Tensor

    def __call__(self, x):
        function, weights = functionalize(self)
        return function(weights, x)

    @property
    def trainable_variables(self):
        return self.branch.trainable_variables


def functionalize(g):
    """Splits a branch into a pure function and the tensors that it needs.

    Args:
      g: see `as_composition`.

    Returns:
      `(function, weights)` with `function(weights, x) = g(x)`: a `Function`, and a flat list of
      tensors, differentiable with respect to the layer's variables.

    Raises:
      ValueError: see `as_composition`.
    """
    composed, weights = as_composition(g)
    return composed.normalized(), shared(_normalize, composed)(weights)


def as_composition(g):
    """`functionalize(g)` before the norms, for those who `normalize` in a function of their own.

    A `PureLayer` says its function itself. Any other Keras layer goes through its
    `stateless_call`. Inside a `keras.Sequential` each layer is taken by itself.

    Args:
      g: a built Keras layer, one `At` a context, or a function of `x` alone that uses no variables.

    Returns:
      `(composition, weights)`: `composition.normalized()` of `composition.normalize(weights)` is g.

    Raises:
      ValueError: if `g` is a layer that has not been built.
    """
    if isinstance(g, At):
        composed, weights = as_composition(g.branch)
        return composed, [*weights, g.context]
    members = g.layers if isinstance(g, keras.Sequential) else [g]
    with upkeep.up_to_date(lambda: norm_layers(
            [layer for layer in members if isinstance(layer, keras.layers.Layer)])):
        parts = [_part(layer) for layer in members]
    takes_context = any(getattr(f, "takes_context", False) for f, _ in parts)
    kind = Conditional if takes_context else Composition
    composed = kind(tuple((f, len(own)) for f, own in parts))
    return composed, [w for _, own in parts for w in own]


def _part(g):
    """`(function, weights)` of a layer, or of a function."""
    if not isinstance(g, keras.layers.Layer):
        return Opaque(lambda weights, x: g(x)), []
    if not g.built:
        raise ValueError(f"`g` must be built before it is used. Received: g={g}")
    if isinstance(g, keras.Sequential):
        return functionalize(g)
    if type(g).call in (PureLayer.call, ContextLayer.call):
        return g.raw_function()
    state = [tf.convert_to_tensor(v.value) for v in g.non_trainable_variables]
    weights = [tf.convert_to_tensor(v.value) for v in g.trainable_variables]

    def call(weights, x):
        with upkeep.kept():
            y, _, losses = g.stateless_call(weights, state, x, return_losses=True)
        if len(losses) > sum(v.regularizer is not None for v in g.trainable_variables):
            raise ValueError("`branch` must not use `add_loss`, which would not be minimised: its "
                             f"layers are evaluated as functions. Received: {g.name}, which does")
        return y

    return Opaque(call), weights


def leaf_layers(layers):
    """All layers below `layers` that hold no other layer, in order, each once."""
    leaves = {}
    for layer in layers:
        inner = [sub for sub in layer._flatten_layers(include_self=False)]
        for leaf in inner or [layer]:
            if not list(leaf._flatten_layers(include_self=False)):
                leaves[id(leaf)] = leaf
    return list(leaves.values())


def norm_layers(layers):
    """Those of `leaf_layers(layers)` whose norm has to follow their weights."""
    return [layer for layer in leaf_layers(layers) if hasattr(layer, "update_norms")]


def has_state(layer):
    """Whether a Keras layer draws numbers, or keeps statistics, where a function may not."""
    ours = isinstance(layer, PureLayer) or hasattr(layer, "update_norms")
    return not ours and bool(layer._seed_generators or layer._non_trainable_variables)


def warn_of_states(name, layer):
    """Warns of layers in `layer` that `has_state`, from the constructor of whoever takes it.

    Args:
      name: of the constructor's argument.
      layer: a Keras layer.
    """
    states = [leaf.name for leaf in leaf_layers([layer]) if has_state(leaf)]
    if states:
        warnings.warn(f"`{name}` is a function: layers that have a state, as Dropout and "
                      "BatchNormalization, do in training what they do in inference, without "
                      f"noise and with the statistics that they have. Received: {states}",
                      stacklevel=3)


def update_norms(layers):
    """Brings the norms of `norm_layers` up to date, once after each change of their weights."""
    for kind, own in upkeep.by_kind(layers).items():
        kind.update_norms(own)


def _normalize(composition, weights):
    return composition.normalize(weights)
