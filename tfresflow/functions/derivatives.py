"""Gradients of one's own that can be differentiated again, backward and forward.

What TensorFlow is told of a custom gradient's own derivative is what the operations say that it
happens to be made of: nothing of loops over parts, and of what a closure holds that it is constant.
And `tf.autodiff.ForwardAccumulator` asks custom gradients where tapes do not record, or not at all,
and follows no tensor into a loop of a graph. So what is computed is hidden from it, and it is told
the tangent along a direction, `d <gradient(u), direction> / du`, as a gradient is linear in u.
"""

import concurrent.futures
import contextlib
import sys

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record

from tfresflow.functions.custom_gradient import custom_gradient

__all__ = ["OUTSIDE", "differentiable", "held", "hidden", "is_followed", "once", "with_gradient"]

OUTSIDE = ("a `tf.autodiff.ForwardAccumulator` must be opened inside of a `tf.function` that has "
           "stochastic log-determinants or fixed points (inverses, samples), not around it; a "
           "`tf.GradientTape` inside of a `tf.vectorized_map` of these (or take `tf.map_fn`)")


def with_gradient(compute, backward, sources):
    """`compute(*sources)` with a gradient of one's own, and with the tangents that follow from it.

    Args:
      compute: `(*sources) -> tensors`, a list.
      backward: `(sources, *cotangents) -> [gradients of the sources]`, differentiable with respect
        to all of them.
      sources: tensors, or variables that `backward` reads.

    Raises:
      ValueError: if several `tf.autodiff.ForwardAccumulator`s follow the sources, one in another.
    """
    read = list(map(tf.convert_to_tensor, sources))

    def gradient(*d):
        if _is_asked_from_around():
            raise ValueError(OUTSIDE)
        return backward(sources, *d)

    if not is_followed(read):
        return list(custom_gradient(lambda *own: (compute(*own), gradient))(*read))
    found = hidden(lambda: compute(*read))
    outputs = _attached(found, read, gradient)
    along = _directions(read)

    def tangents(sources, *along):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            u = list(map(tf.zeros_like, outputs))
            tape.watch(u)
            gradients = backward(sources, *u)
            products = [gradients[i] for i in followed]
        return tape.gradient(products, u, along, unconnected_gradients="zero")

    def gradient_of_tangents(*d):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([*sources, *directions])
            found = tangents(sources, *directions)
        return tape.gradient(found, [*sources, *directions], d, unconnected_gradients="zero")

    followed, directions = list(along), list(along.values())
    found = _attached(hidden(lambda: tangents(sources, *directions)), [*read, *directions],
                      gradient_of_tangents)
    _tell(outputs, found, read)
    return outputs


def differentiable(compute, plain, sources, constants=()):
    """`compute(*sources)` with the derivatives of `plain(*sources, *constants)`, its equal.

    So that what is fast need not be differentiable. The second costs nothing until it is asked for.

    Args:
      compute: returns a list of tensors.
      plain: returns the same numbers, in TensorFlow that is differentiable to any order.
      sources: tensors of which they are functions.
      constants: other tensors that `plain` uses.
    """
    # Each order of a derivative may be built in a graph of its own, which can use tensors of the
    # one before it, but of none further back: hence tensors of each.
    constants = list(map(tf.stop_gradient, constants))
    sources = list(map(tf.identity, sources))

    def backward(sources, *d):
        own = list(map(tf.identity, sources))
        fixed = list(map(tf.stop_gradient, constants))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(own)
            outputs = plain(*own, *fixed)
        return tape.gradient(outputs, own, d, unconnected_gradients="zero")

    return with_gradient(compute, backward, sources)


def once(tensors, sources):
    """The same tensors; to differentiate them once more by the sources is an error."""
    def refuse(*_):
        raise ValueError("what `autodiff.gradients` returns must not be differentiated: for second "
                         "derivatives take a tf.GradientTape around `forward_and_log_det`")

    read = list(map(tf.convert_to_tensor, sources))
    if is_followed(read):
        refuse()
    return _attached(list(map(tf.stop_gradient, tensors)), read, refuse)


def is_followed(tensors):
    """Whether a `tf.autodiff.ForwardAccumulator` follows one of the tensors."""
    return bool(forwardprop_util.pack_tangents(list(tensors)).tangents)


def hidden(compute):
    """The tensors that `compute()` returns, as constants of tapes and accumulators."""
    if tf.executing_eagerly():
        around = contextlib.nullcontext()
    else:
        around = tf.compat.v1.get_default_graph().as_default()

    def trace():
        with around:
            return tf.function(compute, autograph=False).get_concrete_function()

    # Accumulators are those of a thread.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        traced = thread.submit(trace).result()
    with record.stop_recording():
        return tf.nest.map_structure(tf.stop_gradient, traced())


def held(tensors):
    """The same, to be kept for a gradient that takes them for constants.

    As by `tf.stop_gradient`; but `tf.vectorized_map`, which differentiates what custom gradients
    are made of in place of them, sees what these were made of.
    """
    return list(map(_held, tensors))


@custom_gradient
def _held(x):
    return tf.identity(x), lambda d: None


def _is_asked_from_around():
    """Whether an accumulator around a graph asks: it loses the custom gradients of gradients."""
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "_build_functions_for_outputs":
            return bool(frame.f_locals.get("input_tangents"))
        frame = frame.f_back
    return False


def _attached(found, sources, gradient):
    """The tensors `found`, as functions of the sources for tapes alone."""
    with record.stop_recording():
        outputs = list(custom_gradient(lambda *_: (list(map(tf.identity, found)), gradient))(
            *sources))
    record.record_operation_backprop_only("Gradient", outputs, sources, gradient)
    return outputs


def _directions(sources):
    """`{i: tangent of sources[i]}`, of the accumulator that follows some of them."""
    indices, tangents = forwardprop_util.pack_tangents(sources)
    pairs = [pairs for pairs in indices if pairs]
    if len(pairs) > 1:
        raise ValueError("`tf.autodiff.ForwardAccumulator`s must not be nested around stochastic "
                         "log-determinants and fixed points (inverses, samples): a "
                         "`tf.GradientTape` around one gives second derivatives")
    return {i: tangents[j - len(sources)] for i, j in pairs[0]}


def _tell(outputs, tangents, sources):
    """Tells the accumulator that follows `sources` the tangents of `outputs`."""
    places = tuple((i, len(outputs) + i) for i in range(len(outputs)))
    indices = forwardprop_util.pack_tangents(sources).indices
    record.record_operation_forwardprop_only(
        "Tangents", [*outputs, *tangents], sources, lambda *d: [None] * len(sources),
        [places if pairs else () for pairs in indices])
