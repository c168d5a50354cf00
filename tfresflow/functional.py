"""A residual branch as a pure function of its weights.

Estimators and solvers call a branch many times and need to say what the gradient of
its weights is. Both are simple when the branch is `g(weights, x)` with nothing
captured: the weights are read, normalised and differentiated once, however often g runs.
"""

import keras
import tensorflow as tf

__all__ = ["functional", "leaf_layers"]


def functional(g):
    """Splits a branch into a pure function and the tensors that it needs.

    A layer of this library offers `effective_weights()` (tensors, normalised) and
    `apply(weights, x)`. Any other Keras layer goes through its `stateless_call`. Inside a
    `keras.Sequential` each layer is taken by itself.

    Args:
      g: a built Keras layer, or a function of `x` alone that uses no variables.

    Returns:
      `(pure, weights)` with `pure(weights, x) = g(x)` and `weights` a flat list of tensors,
      differentiable with respect to the layer's variables.

    Raises:
      ValueError: if `g` is a layer that has not been built.
    """
    if not isinstance(g, keras.layers.Layer):
        return (lambda weights, x: g(x)), []
    if not g.built:
        raise ValueError(f"`g` must be built before it is used. Received: g={g}")
    if isinstance(g, keras.Sequential):
        return _compose([functional(layer) for layer in g.layers])
    if hasattr(g, "effective_weights"):
        return g.apply, g.effective_weights()
    state = [tf.convert_to_tensor(v.value) for v in g.non_trainable_variables]
    weights = [tf.convert_to_tensor(v.value) for v in g.trainable_variables]
    return (lambda weights, x: g.stateless_call(weights, state, x)[0]), weights


def _compose(parts):
    sizes = [len(weights) for _, weights in parts]

    def pure(weights, x):
        start = 0
        for (function, _), size in zip(parts, sizes):
            x = function(weights[start:start + size], x)
            start += size
        return x

    return pure, [w for _, weights in parts for w in weights]


def leaf_layers(layers):
    """All layers below `layers` that hold no other layer, in order, each once."""
    leaves = {}
    for layer in layers:
        inner = [sub for sub in layer._flatten_layers(include_self=False)]
        for leaf in inner or [layer]:
            if not list(leaf._flatten_layers(include_self=False)):
                leaves[id(leaf)] = leaf
    return list(leaves.values())
