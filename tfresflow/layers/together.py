"""Norms of many layers brought up to date together, equal small ones as one operator of many parts.

A hundred blocks have hundreds of small kernels; one after the other they would take as many loops
of operations that are too short to be worth starting.

All functions take layers of bounded norm, `InducedNorm`s, and pass over those that keep no vectors.
"""

import math

import tensorflow as tf

from tfresflow.functions.traced import shared
from tfresflow.layers.fingerprint import fingerprint
from tfresflow.layers.norms import PowerIteration

__all__ = ["any_changed", "catch_up", "update_norms"]

_FAR = 0.1  # how much of a kept vector a single step moves where the kernel is another one
_RTOL, _STEPS = 1e-6, 1000  # power iteration is as thorough as that there, at least


def update_norms(layers, iterate=None):
    """`update_norm(iterate)` of many layers."""
    for variable, value in _new_vectors(_update, layers, iterate):
        variable.assign(value)


def any_changed(layers):
    """Whether weights or orders of one of `layers` have changed since its norm was updated."""
    layers = [layer for layer in layers if layer.vectors]
    if not layers:
        return tf.constant(False)
    marked = [[tf.convert_to_tensor(layer.kernel), *layer.norm_orders()] for layer in layers]
    return shared(_any_changed, tuple(map(len, marked)))(
        [tf.stop_gradient(x) for own in marked for x in own],
        [tf.convert_to_tensor(layer.mark.value) for layer in layers])


def catch_up(layers):
    """Updates the norms of all `layers` if weights or orders of one have changed since."""
    layers = [layer for layer in layers if layer.vectors]
    if not layers:
        return
    changed = any_changed(layers)
    if not all(hasattr(layer.mark.value, "assign") for layer in layers):
        # In Keras's `stateless_call`, variables are tensors: what is assigned is handed back.
        pairs = [(v, tf.convert_to_tensor(v.value)) for layer in layers for v in layer.vectors]
        new = tf.cond(changed, lambda: _followed(layers), lambda: [old for _, old in pairs])
        for (variable, _), value in zip(pairs, new):
            variable.assign(value)
        return

    def follow():
        for variable, value in _new_vectors(_follow, layers):
            variable.value.assign(value)  # not Keras's own: it keeps account while it builds
        return changed

    tf.cond(changed, follow, lambda: changed)


def _followed(layers):
    """What `_follow` makes of the vectors of all layers, in their order."""
    new = {id(variable): value for variable, value in _new_vectors(_follow, layers)}
    return [new[id(variable)] for layer in layers for variable in layer.vectors]


def _new_vectors(function, layers, iterate=None):
    """`(variable, value)` of all vectors; function: `_update` or `_follow`."""
    groups = {}
    for layer in layers:
        if layer.vectors:
            equal = (layer.norm, layer.function, iterate or layer.power_iteration, layer.coeff,
                     tuple(layer.kernel.shape))
            groups.setdefault(equal, []).append(layer)
    for (*static, shape), equal in groups.items():
        one_by_one = [[layer] for layer in equal]
        for group in _batches(equal, shape) if equal[0].function.stackable else one_by_one:
            state = _stacked([layer.norm_state() for layer in group])
            new = shared(function, *static)(state)
            for layer, *own in zip(group, *(_unstacked(x, len(group)) for x in new)):
                yield from zip(layer.vectors, own)


def _update(norm, function, iterate, coeff, state):
    """Vectors brought up to date, and the mark of what they were made for."""
    state = norm.read(state)
    return *norm.update(function, iterate, coeff, state), norm.mark(state)


def _follow(norm, function, iterate, coeff, state):
    """`_update`, thoroughly and with fresh starts mixed in where the kernel is a new one.

    A step of training turns the kept vectors a little; weights that were swapped, or assigned,
    may have nothing of the old maximum.
    """
    state = norm.read(map(tf.stop_gradient, state))
    old_v = state.v
    new_u, new_v, _ = norm.maximise(function, PowerIteration(1), state)
    state = state._replace(u=new_u, v=new_v)

    def anew():
        # The tolerance of a step of training, from near the maximum, would be met anywhere.
        thorough = PowerIteration(rtol=min(_RTOL, iterate.rtol), max_steps=max(
            _STEPS, iterate.max_steps, iterate.num_steps or 0))
        u, v = norm.anew(function, state)
        return _update(norm, function, thorough, coeff, state._replace(u=u, v=v))

    # Of each layer, as others beside it may be as they were. Not so if one is not finite.
    moved, length = (tf.norm(tf.reshape(v, [*norm.mark(state).shape, -1]), axis=1)
                     for v in (new_v - old_v, old_v))
    near = tf.reduce_all(moved <= _FAR * length)
    return tf.cond(near, lambda: _update(norm, function, iterate, coeff, state), anew)


def _any_changed(sizes, tensors, marks):
    """Whether one of the kernels is not the one of its mark.

    Args:
      sizes: numbers of tensors of each layer: its kernel and those of its orders.
      tensors: all that.
      marks: `[1]` of each, of `fingerprint`.
    """
    groups = {}
    for own, mark in zip(tf.nest.pack_sequence_as([[0] * size for size in sizes], tensors), marks):
        groups.setdefault((len(own), tuple(own[0].shape)), []).append([*own, mark])
    return tf.reduce_any(tf.concat([
        fingerprint(kernel, orders, len(some)) != mark for (_, shape), equal in groups.items()
        for some in _batches(equal, shape) for kernel, *orders, mark in [_stacked(some)]], 0))


def _batches(equal, shape):
    """Lists of as many of them as stay in a processor's cache, each a tensor of `shape`."""
    count = max(1, 2 ** 18 // math.prod(shape))
    return [equal[i:i + count] for i in range(0, len(equal), count)]


def _stacked(states):
    """The state of one operator of many parts; that of a single one as it is."""
    if len(states) == 1:
        return states[0]
    kernels, *vectors = zip(*states)
    return [tf.stack(kernels), *(tf.concat(own, 0) for own in vectors)]


def _unstacked(x, count):
    """What of the vectors `x` belongs to each of so many parts."""
    return tf.split(x, count) if count > 1 else [x]
