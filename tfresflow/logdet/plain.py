"""The first-order gradient of an estimate, computed plainly: what its derivatives are made of.

It is a function of its own, `G(x, weights, dy, dlog_det)`. The Neumann gradient is that of
`w^T J v` with w held constant, but w depends on x and the weights, and a derivative of G has to see
that. As the mean of G is the true gradient at all x and weights, the mean of its derivative is that
of the true gradient: second derivatives are unbiased, too.
"""

import tensorflow as tf

from tfresflow.functions.jacobian import linearise

__all__ = ["first_order"]


def first_order(g, gradient, x, v, terms, dy, dlog_det, weights):
    """`[dx, log_det, *dweights]`, differentiable to any order.

    Args:
      g, weights: a `Function` and its weights.
      gradient: `Neumann()` or `Series()`.
      x, v, terms: where, the probes, and the `Terms`.
      dy, dlog_det: cotangents of g(x) and of the estimate.
    """
    # Not on the tape, but on those around it: a constant of this order alone.
    log_det, w = terms.sum_plainly(linearise(g, weights, x)[1], v)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([x, *weights])
        y, jacobian = linearise(g, weights, x)
        tensors, cotangents = gradient.targets(jacobian, v, terms, w)(dlog_det)
    dx, *dweights = tape.gradient([y, *tensors], [x, *weights], [dy, *cotangents],
                                  unconnected_gradients="zero")
    return [dx, log_det, *dweights]
