"""What is kept between the forward and the backward pass of a block.

    Tape       everything: the fastest where memory is no concern
    Released   the log-determinant's gradient is taken in the forward pass and scaled by the
               scalar cotangent later (equation 10); needs one cotangent for all examples
    Recompute  only x, v and w; the backward pass runs g once more and takes one gradient of
               <g, dy> + <c w^T J, v>. Right for any cotangents, the default.

Each is a function `(g, weights, x, v, c, gradient) -> (g(x), log_det)`; the numbers and the
gradients are the same for all three.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable

__all__ = ["Recompute", "Released", "Tape"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Tape(Configurable):
    """Ordinary back-propagation through the estimate."""

    def __call__(self, g, weights, x, v, c, gradient):
        y, vjp = _linearise(g, weights, x)
        return y, gradient.differentiable(vjp, v, c)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Released(Configurable):
    """The gradient of the log-determinant is ready when the forward pass ends.

    The gradient of the weights is one sum over the batch, so the cotangents of the examples
    must be equal, as they are for a mean over the batch; unequal ones raise
    `tf.errors.InvalidArgumentError`.
    """

    def __call__(self, g, weights, x, v, c, gradient):
        @tf.custom_gradient
        def call(x, *weights):
            with tf.GradientTape() as log_det_tape:
                log_det_tape.watch([x, *weights])
                with tf.GradientTape(persistent=True) as g_tape:
                    g_tape.watch([x, *weights])
                    y = g(weights, x)
                log_det = gradient.differentiable(_vjp(g_tape, y, x), v, c)
            dx_ready, *dweights_ready = _gradient(log_det_tape, log_det, [x, *weights])

            def backward(dy, dlog_det):
                scale = _common_cotangent(dlog_det)
                dx, *dweights = _gradient(g_tape, y, [x, *weights], dy)
                dx += _per_example(dlog_det, dx_ready)
                return [dx, *(d + scale * r for d, r in zip(dweights, dweights_ready))]

            return (y, log_det), backward

        return call(x, *weights)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Recompute(Configurable):
    """Keeps x, v and w; everything inside g is computed again when the gradient is asked for."""

    def __call__(self, g, weights, x, v, c, gradient):
        @tf.custom_gradient
        def call(x, *weights):
            y, vjp = _linearise(g, weights, x)
            log_det, kept = gradient.value(vjp, v, c)

            def backward(dy, dlog_det):
                # The control dependency keeps TensorFlow from sharing the first evaluation
                # with the second, or from starting the second early: either would hold the
                # memory that this strategy is here to free.
                with tf.control_dependencies([dy, dlog_det]):
                    x_again = tf.identity(x)
                with tf.GradientTape() as tape:
                    tape.watch([x_again, *weights])
                    y_again, vjp_again = _linearise(g, weights, x_again)
                    surrogate = gradient.surrogate(vjp_again, v, c, kept)
                    target = tf.reduce_sum(y_again * dy) + tf.reduce_sum(surrogate * dlog_det)
                return _gradient(tape, target, [x_again, *weights])

            return (y, log_det), backward

        return call(x, *weights)


def _linearise(g, weights, x):
    """`g(x)` and its vector-Jacobian product, the forward pass run once."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        y = g(weights, x)
    return y, _vjp(tape, y, x)


def _vjp(tape, y, x):
    return lambda u: tape.gradient(y, x, u, unconnected_gradients="zero")


def _gradient(tape, target, sources, cotangent=None):
    # The log-determinant does not depend on the last bias: zero, not None.
    return tape.gradient(target, sources, cotangent, unconnected_gradients="zero")


def _per_example(scale, x):
    return tf.reshape(scale, [-1] + [1] * (x.shape.rank - 1)) * x


def _common_cotangent(dlog_det):
    """The one number that all entries of `dlog_det [N]` are, or an error."""
    low, high = tf.reduce_min(dlog_det), tf.reduce_max(dlog_det)
    tolerance = 1e-6 * tf.maximum(tf.abs(low), tf.abs(high))
    message = ("memory=Released() needs the same cotangent of log_det for every example of the "
               "batch (an unweighted mean or sum). Use Recompute() or Tape() where examples are "
               "weighted. Received cotangents between")
    check = tf.debugging.Assert(high - low <= tolerance, [message, low, "and", high])
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(tf.reduce_mean(dlog_det))
