"""A residual branch as a pure, hashable function of its weights.

Estimators and solvers call a branch many times and need its derivatives. Both are simple
when the branch is `g(weights, x)` with nothing captured: the weights are read, normalised
and differentiated once, however often g runs. And because equal branches are equal
functions, what is built on one (`shared`) is traced once for all blocks of a shape.
"""

import functools

import keras
import tensorflow as tf

from tfresflow.functions import Composition, Opaque

__all__ = ["FunctionalLayer", "functional", "is_shareable", "leaf_layers", "norm_layers", "shared",
           "unprepared", "update_norms"]


class FunctionalLayer:
    """Mixin of Keras layers that are a `Function` of `effective_weights()`.

    A subclass says `function` (a property) and `effective_weights()`; one that overrides `call`
    instead is treated as any other Keras layer.
    """

    def call(self, inputs):
        if not inputs.dtype.is_floating:  # Keras casts floats alone
            inputs = tf.cast(inputs, self.compute_dtype)
        return self.function(self.effective_weights(), inputs)

    def unprepared(self):
        """`(function, weights)` of a function whose `pieces` are taken apart in a branch."""
        return self.function, self.effective_weights()


def functional(g):
    """Splits a branch into a pure function and the tensors that it needs.

    Args:
      g: see `unprepared`.

    Returns:
      `(function, weights)` with `function(weights, x) = g(x)`: a `Function`, and a flat list of
      tensors, differentiable with respect to the layer's variables.

    Raises:
      ValueError: see `unprepared`.
    """
    composed, weights = unprepared(g)
    return composed.prepared(), shared(_prepare, composed)(weights)


def unprepared(g):
    """`functional(g)` before the norms: for those who call `prepare` in a function of their own.

    A `FunctionalLayer` says its function itself. Any other Keras layer goes through its
    `stateless_call`. Inside a `keras.Sequential` each layer is taken by itself.

    Args:
      g: a built Keras layer, or a function of `x` alone that uses no variables.

    Returns:
      `(composition, weights)`: `composition.prepared()` of `composition.prepare(weights)` is g.

    Raises:
      ValueError: if `g` is a layer that has not been built.
    """
    parts = [_part(layer) for layer in (g.layers if isinstance(g, keras.Sequential) else [g])]
    composed = Composition(tuple((f, len(own)) for f, own in parts))
    return composed, [w for _, own in parts for w in own]


def _part(g):
    """`(function, weights)` of a layer, or of a function."""
    if not isinstance(g, keras.layers.Layer):
        return Opaque(lambda weights, x: g(x)), []
    if not g.built:
        raise ValueError(f"`g` must be built before it is used. Received: g={g}")
    if isinstance(g, keras.Sequential):
        return functional(g)
    if type(g).call is FunctionalLayer.call:
        return g.unprepared()
    state = [tf.convert_to_tensor(v.value) for v in g.non_trainable_variables]
    weights = [tf.convert_to_tensor(v.value) for v in g.trainable_variables]
    return Opaque(lambda weights, x: g.stateless_call(weights, state, x)[0]), weights


def shared(function, *static):
    """`function` with its first arguments bound, traced once for all equal ones.

    In a flow of many equal blocks the outer graph then has one call a block in place of a copy
    of the block: tracing and graph optimisation no longer grow with the depth.

    Args:
      function: of tensors, after the static arguments; of a module, not a closure.
      *static: hashable objects that say what is computed.

    Returns:
      A function of the remaining arguments: tensors, whose shapes follow from that of the first
      one `[N, ...]` (N is traced as unknown once it has changed), and lists of weights.
    """
    if not all(is_shareable(s) for s in static):
        return functools.partial(function, *static)
    return lambda *args: _traced(function, static, _shapes(args))(*args)


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


def update_norms(layers):
    """Brings the norms of `norm_layers` up to date, once after each change of their weights."""
    kinds = {}
    for layer in layers:
        kinds.setdefault(type(layer), []).append(layer)
    for kind, own in kinds.items():
        kind.update_norms(own)


def _prepare(composition, weights):
    return composition.prepare(weights)


def is_shareable(static):
    """Whether what is built on `static` may serve all that is equal to it.

    A closure may hold tensors of the graph that it was made in, a layer has variables.
    """
    plain = not (getattr(static, "__closure__", None) or isinstance(static, keras.layers.Layer))
    return plain and getattr(static, "shareable", True)


def _shapes(args):
    """What a trace is for, apart from the batch size."""
    event = () if isinstance(args[0], list) else tuple(args[0].shape[1:])
    weights = [tensor for arg in args if isinstance(arg, list) for tensor in arg]
    return event, tuple(tuple(tensor.shape) for tensor in weights)


@functools.lru_cache(maxsize=1024)
def _traced(function, static, shapes):
    del shapes  # part of the key
    return tf.function(functools.partial(function, *static), autograph=False,
                       reduce_retracing=True, experimental_attributes={"_noinline": True})
