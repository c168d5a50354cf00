"""Custom gradients that can be differentiated again.

What TensorFlow is told of a custom gradient's own derivative is what the operations say that it
happens to be made of: nothing of loops over parts, and of what a closure holds that it is constant.
"""

import tensorflow as tf

__all__ = ["NO_FORWARD_MODE", "differentiable", "held", "refuse_forward_mode"]

NO_FORWARD_MODE = ("`tf.autodiff.ForwardAccumulator` does not pass through stochastic "
                   "log-determinants and fixed points (inverses, samples). Use `tf.GradientTape`: "
                   "the gradient, with respect to u, of the product of u with the Jacobian is a "
                   "product of the Jacobian.")


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
            refuse_forward_mode()
            own = list(map(tf.identity, sources))
            fixed = list(map(tf.stop_gradient, constants))
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(own)
                outputs = plain(*own, *fixed)
            return tape.gradient(outputs, own, d, unconnected_gradients="zero")

        return compute(*sources), backward

    # Each order of a derivative may be built in a graph of its own, which can use tensors of the
    # one before it, but of none further back: hence tensors of each.
    constants = list(map(tf.stop_gradient, constants))
    return call(*map(tf.identity, sources))


def refuse_forward_mode():
    """To be called where a custom gradient needs tapes.

    Forward mode asks custom gradients for theirs, and tapes then record nothing: zero would be the
    answer.

    Raises:
      ValueError: if a `tf.autodiff.ForwardAccumulator` asks.
    """
    x = tf.constant(0.0)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = tf.identity(x)
    if tape.gradient(y, x) is None:
        raise ValueError(NO_FORWARD_MODE)


def held(tensors):
    """The same, to be kept for a gradient that takes them for constants.

    As by `tf.stop_gradient`; but `tf.vectorized_map`, which differentiates what custom gradients
    are made of in place of them, sees what these were made of.
    """
    return list(map(_held, tensors))


@tf.custom_gradient
def _held(x):
    return tf.identity(x), lambda d: None
