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

from tfresflow.autodiff.moonwalk import Moonwalk
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.batches import seeds
from tfresflow.checks.inputs import as_events
from tfresflow.checks.members import check_flow
from tfresflow.checks.rules import check, check_function, check_kind
from tfresflow.functions.derivatives import once
from tfresflow.functions.steps import Rows, bind
from tfresflow.functions.sweep import check_sweep

__all__ = ["gradients", "walk"]


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
      autodiff: a strategy of tfresflow.autodiff.

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
    begun = _Begun(flow, loss, x, seed, autodiff)
    own = begun.variables if variables is None else variables
    variables = [getattr(v, "value", v) if not isinstance(v, tf.Variable) else v for v in own]
    value, of_loss = begun.differentiated(variables)
    dx, _, dweights = autodiff(*begun.arguments).products
    of_flow = begun.by_variables(begun.bound.weights, variables, dweights)
    of_all = [tf.convert_to_tensor(a) + b for a, b in zip(of_flow, of_loss)]
    state = tf.nest.flatten(begun.start)
    value, *found = once([value, *tf.nest.flatten(dx), *of_all], [*state, *variables])
    return value, found[len(state):], tf.nest.pack_sequence_as(begun.start, found[:len(state)])


@tf.autograph.experimental.do_not_convert
def walk(flow, loss, x, seed=None, autodiff=Moonwalk()):
    """The gradient of a loss, block by block, from the input of a flow to its output.

    Each gradient may be applied and forgotten before the next is computed, so that no more than
    that of one block is ever there: what a block needs of its weights was read before.

    Args:
      flow, loss, x, seed: see `gradients`.
      autodiff: a `Moonwalk`, whose `input_gradient` and `tolerance` count.

    Returns:
      `(value, blocks)`: what `loss` returned, and a generator of `(variables, gradients)`, two
      lists, of the trainable variables of each step that has any. A variable that several steps
      share comes with each of them, and the sum is its gradient. Variables of `loss` alone do not
      come.

    Raises:
      ValueError: see `gradients`; or if a step of the flow is no bijection, as `Dequantize`.
      tf.errors.InvalidArgumentError: at the end, if the derivative by z is further from that of the
        loss than `tolerance`: what came before is not right.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow, x = flows.tabular_flow([3], nblocks=2, dims=4), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) / 2 - tf.reduce_sum(log_det)
      >>> value, blocks = autodiff.walk(flow, loss, x, seed=0)
      >>> for variables, gradients in blocks:
      ...     for variable, gradient in zip(variables, gradients):
      ...         _ = variable.assign_sub(0.01 * gradient)

    References: Krylov et al., Moonwalk: Inverse-Forward Differentiation (2024), algorithm 1.
    """
    check_kind("autodiff", autodiff, "be a `Moonwalk`", Moonwalk)
    begun = _Begun(flow, loss, x, seed, autodiff, persistent=True)
    check(all(step.is_bijection for step in begun.bound.steps), "flow",
          "be of bijections, without noise that is drawn", flow.name)
    value, _ = begun.differentiated([])
    value, = once([value], tf.nest.flatten(begun.start))
    return value, _blocks(begun, autodiff)


def _blocks(begun, autodiff):
    variables = [v.value for v in begun.variables]
    for step, dweights in autodiff.walked(*begun.arguments):
        found = begun.by_variables(step.weights, variables, dweights, None) if dweights else []
        pairs = [(v, d) for v, d in zip(variables, found) if d is not None]
        if pairs:
            yield tuple(map(list, zip(*pairs)))


class _Begun:
    """A loss of a flow at x, its derivatives by z and by the log-determinant, and bound steps.

    Attributes:
      variables: the trainable ones of the flow, as Keras has them.
      bound: the flow as a `Step`.
      start: the state that x is.
      arguments: what a strategy is called with.
    """

    def __init__(self, flow, loss, x, seed, autodiff, persistent=False):
        check_flow(flow)
        check_function("loss", loss, "be a function (z, log_det)", 2)
        check_sweep(autodiff)
        takes_context = getattr(flow, "context_shape", None) is not None
        check(not takes_context or isinstance(x, tuple) and len(x) == 2, "x",
              "be (x, context) for a conditional flow", x)
        self.variables = [v for layer in flow.layers for v in layer.trainable_variables]
        dtype, seed = self.variables[0].dtype if self.variables else None, seeds.as_seed(seed)
        x, *context = x if takes_context else [x]
        x = as_events("x", x, getattr(flow, "event_shape", None), dtype)
        context = [as_events("context", c, flow.context_shape, dtype) for c in context]
        self._loss, self.start = loss, (x, *context) if context else x
        given = {"context": context[0]} if takes_context else {}
        self._found = flow.forward_and_log_det(x, seed, **given)
        with tf.GradientTape(persistent=persistent) as self._tape:
            self.bound = bind(flow, seed, x.shape[0], x.dtype)
        self._rows = Rows(tf.range(tf.shape(x)[0]), seed=seed)
        self._context = context

    def differentiated(self, variables):
        """`(value, the derivatives of the loss by variables that it reads)`."""
        z, log_det = self._found
        with tf.GradientTape() as tape:
            tape.watch([z, log_det])
            value = self._loss(z, log_det)
        dz, dlog_det, *of_loss = tape.gradient(value, [z, log_det, *variables],
                                               unconnected_gradients="zero")
        # The loss is one of z alone, not of the context that comes out beside it.
        end = (dz, *map(tf.zeros_like, self._context)) if self._context else dz
        self.arguments = self.bound.steps, self.start, self._rows, dlog_det, lambda z: ((), end)
        return value, of_loss

    def by_variables(self, weights, variables, dweights, unconnected="zero"):
        """The derivatives by variables, from those by weights of bound steps."""
        return self._tape.gradient(weights, variables, dweights,
                                   unconnected_gradients=unconnected or "none")
