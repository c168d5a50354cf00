"""Custom gradients that can be differentiated again.

What TensorFlow is told of a custom gradient's own derivative is what the operations say that it
happens to be made of: nothing of loops over parts, and of what a closure holds that it is constant.
"""

import tensorflow as tf
from tensorflow.python.eager.forwardprop_util import push_forwardprop_state as undisturbed

__all__ = ["differentiable", "held", "undisturbed"]


def differentiable(compute, plain, sources, constants=()):
    """`compute(*sources)` with the derivatives of `plain(*sources, *constants)`, its equal.

    So that what is fast need not be differentiable. The second costs nothing until it is asked for.

    Args:
      compute: returns a list of tensors.
      plain: returns the same numbers, in TensorFlow that is differentiable to any order.
      sources: tensors of which they are functions.
      constants: other tensors that `plain` uses.
    """
    @tf.custom_gradient
    def call(*sources):
        def backward(*d):
            own = list(map(tf.identity, sources))
            fixed = list(map(tf.stop_gradient, constants))
            with undisturbed(), tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                outputs = plain(*own, *fixed)
            return tape.gradient(outputs, own, d, unconnected_gradients="zero")

        return compute(*sources), backward

    # Each order of a derivative may be built in a graph of its own, which can use tensors of the
    # one before it, but of none further back: hence tensors of each.
    constants = list(map(tf.stop_gradient, constants))
    return call(*map(tf.identity, sources))


def held(tensors):
    """The same, to be kept for a gradient that takes them for constants.

    As by `tf.stop_gradient`; but `tf.vectorized_map`, which differentiates what custom gradients
    are made of in place of them, sees what these were made of.
    """
    return list(map(_held, tensors))


@tf.custom_gradient
def _held(x):
    return tf.identity(x), lambda d: None
