"""The gradient of any loss of a flow, for training loops of one's own.

```python
def bound(z, log_det):                       # importance-weighted, of groups of 8 rows
    log_w = tf.reshape(base.log_prob(z) + log_det, [-1, 8])
    return -tf.reduce_mean(tf.reduce_logsumexp(log_w, axis=1))

variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
value, dvariables, _ = autodiff.gradients(flow, bound, x, seed=step, variables=variables)
optimizer.apply_gradients(zip(dvariables, variables))
```
"""

import tensorflow as tf

from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.batches import seeds
from tfresflow.checks.inputs import as_events
from tfresflow.checks.members import check_flow
from tfresflow.checks.rules import check, check_function
from tfresflow.functions.derivatives import once
from tfresflow.functions.steps import Rows, bind
from tfresflow.functions.sweep import check_sweep

__all__ = ["gradients"]


@tf.autograph.experimental.do_not_convert
def gradients(flow, loss, x, seed=None, variables=None, autodiff=Recomputed()):
    """The value of a loss of `z` and `log_det`, and its gradient.

    Gives the same numbers as a `tf.GradientTape` around `flow.forward_and_log_det`, for deep flows
    in less memory: `autodiff` chooses what is kept between the passes. The loss may be any
    differentiable function of z and the log-determinant.

    Args:
      flow: bijector with `forward_and_log_det`, `inverse_alone` and `layers`.
      loss: `(z [N, ...], log_det [N]) -> value`, a scalar, or a tensor whose sum is differentiated.
      x: `[N, ...]`; of a conditional flow `(x, context)`.
      seed: an integer or a `[2]` tensor; the same seed gives the same estimates. None: stochastic
        ones are others at each call.
      variables: those to differentiate with respect to, of the flow or others that `loss` reads;
        default the trainable ones of `flow.layers`, layer by layer.
      autodiff: `Recomputed()`, `Stored()` or `Released()` of tfresflow.autodiff.

    Returns:
      `(value, dvariables, dx)`: what `loss` returned, a list as `variables`, and as `x`.

    Raises:
      ValueError: if an argument is not what it should be; or if a result is differentiated once
        more: for second derivatives take a tape around `forward_and_log_det`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
      >>> flow = InvertibleResidual(g, [2])                       # z = 1.5 x
      >>> value, (dkernel, dbias), dx = autodiff.gradients(
      ...     flow, lambda z, log_det: tf.reduce_sum(z ** 2) / 2, [[2., 4.]])
      >>> value.numpy().item(), dx.numpy().tolist(), dbias.numpy().tolist()
      (22.5, [[4.5, 9.0]], [3.0, 6.0])
    """
    check_flow(flow)
    check_function("loss", loss, "be a function (z, log_det)", 2)
    check_sweep(autodiff)
    takes_context = getattr(flow, "context_shape", None) is not None
    check(not takes_context or isinstance(x, tuple) and len(x) == 2, "x",
          "be (x, context) for a conditional flow", x)
    own = [v for layer in flow.layers for v in layer.trainable_variables]
    variables = [getattr(v, "value", v) if not isinstance(v, tf.Variable) else v
                 for v in (own if variables is None else variables)]
    dtype, seed = own[0].dtype if own else None, seeds.as_seed(seed)
    x, *context = x if takes_context else [x]
    x = as_events("x", x, getattr(flow, "event_shape", None), dtype)
    context = [as_events("context", c, flow.context_shape, dtype) for c in context]
    z, log_det = flow.forward_and_log_det(x, seed, **dict(zip(["context"], context)))
    with tf.GradientTape() as tape:
        tape.watch([z, log_det])
        value = loss(z, log_det)
    dz, dlog_det, *of_loss = tape.gradient(value, [z, log_det, *variables],
                                           unconnected_gradients="zero")
    with tf.GradientTape() as tape:
        bound = bind(flow, seed, x.shape[0], x.dtype)
    # The loss is one of z alone, not of the context that comes out beside it.
    start, end = ((x, *context), (dz, *map(tf.zeros_like, context))) if context else (x, dz)
    rows = Rows(tf.range(tf.shape(x)[0]), seed=seed)
    dx, _, dweights = autodiff(bound.steps, start, rows, dlog_det, lambda z: ((), end)).products
    of_flow = tape.gradient(bound.weights, variables, dweights, unconnected_gradients="zero")
    of_all = [tf.convert_to_tensor(a) + b for a, b in zip(of_flow, of_loss)]
    value, *found = once([value, *tf.nest.flatten(dx), *of_all], [x, *context, *variables])
    dx, dvariables = found[:1 + len(context)], found[1 + len(context):]
    return value, dvariables, tuple(dx) if context else dx[0]
