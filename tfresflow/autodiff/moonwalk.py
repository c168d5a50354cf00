"""Gradients in a forward sweep: the input's first, then that of each step from it."""

import dataclasses
import itertools

import keras
import tensorflow as tf

from tfresflow.autodiff.checkpointed import Checkpointed
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.batches.rows import dot
from tfresflow.checks.rules import check_number
from tfresflow.functions.sweep import Sweep, Swept, after, check_sweep, concatenated, settled
from tfresflow.saving.configurable import Configurable

__all__ = ["Moonwalk"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Moonwalk(Configurable, Sweep):
    """Finds the derivative by x first, and from it, in a forward sweep, all others.

    The first phase asks for no derivative by weights. The second goes from step to step: with the
    derivative by the input of a step, one vector-inverse-Jacobian product gives that by its output
    (`Step.vijp`; one linear solve for a residual block), and from this follows the derivative by
    its weights. What one step needs is freed before the next begins. Steps that draw noise, as
    `Dequantize`, are no bijections: what is up to the last of them is differentiated backward.

    The derivative by z at the end must be the one of the loss, which is known. How far it is from
    it, for each example and relative to its norm, is the error of the sweep. If it is more than
    `tolerance`, or not finite, for any example, all derivatives are taken once more by `fallback`.
    `FlowModel` reports the mean error as the metric `gradient_error`, each counted as at most 1,
    and as `gradient_fallbacks` how many examples were past the tolerance; it warns of the first.

    Args:
      input_gradient: strategy for the derivative by x: `Checkpointed()` or another one (mixed), or
        `ForwardMode()` (pure), which keeps nothing between the passes and takes one pass for each
        number in x.
      tolerance: see above.
      fallback: strategy that takes its place where it is not right; None: none does.

    Raises:
      ValueError: if an argument is not what it should be.
      tf.errors.InvalidArgumentError: if the adjoint solve of a block does not converge.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow, x = flows.tabular_flow([3], nblocks=2, dims=4), tf.ones([2, 3])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.Moonwalk(), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))
      True

    References: Krylov et al., Moonwalk: Inverse-Forward Differentiation (2024).
    """

    input_gradient: Sweep = Checkpointed()
    tolerance: float = 1e-3
    fallback: Sweep | None = Checkpointed()

    def __post_init__(self):
        check_sweep(self.input_gradient, "input_gradient")
        check_number("tolerance", self.tolerance, "be positive", lambda value: value > 0)
        if self.fallback is not None:
            check_sweep(self.fallback, "fallback")

    def __call__(self, steps, x, rows, dlog_det, end):
        head = sum(1 for _ in itertools.dropwhile(lambda step: step.is_bijection, steps[::-1]))
        rest = []

        def walk(z):
            rest.append(self._walk(steps[head:], z, rows, dlog_det, end))
            return rest[0].outputs, rest[0].dx

        if not head:
            return self._walk(steps, x, rows, dlog_det, end)
        first = Recomputed()(steps[:head], x, rows, dlog_det, walk)
        return rest[0]._replace(dx=first.dx, log_det=first.log_det + rest[0].log_det,
                                dweights=first.dweights + rest[0].dweights)

    def _walk(self, steps, x, rows, dlog_det, end):
        """`__call__` for steps that are bijections."""
        (outputs, dz), dx = self._first(steps, x, rows, dlog_det, end)
        error, *found = self._walked(steps, x, rows, dx, dlog_det, dz)
        if self.fallback is not None:
            def again():
                swept = self.fallback(steps, after(error, x), rows, dlog_det, lambda z: ((), dz))
                return _flat(*swept.products)

            right = tf.reduce_all(error <= self.tolerance)  # not if it is NaN
            flat = tf.cond(right, lambda: _flat(dx, *found), again)
            dx, *found = _like(flat, dx, *found)
        return Swept(outputs, dx, *found, error)

    def _walked(self, steps, x, rows, dx, dlog_det, dz):
        """`(error, log_det, dweights)`, by the second phase."""
        log_dets, dweights = [], []
        for _, dx, log_det, own in _pushed(steps, x, rows, dx, dlog_det):
            log_dets.append(log_det)
            dweights.append(own)
        return _distance(dx, dz), tf.add_n(log_dets), concatenated(dweights)

    def walked(self, steps, x, rows, dlog_det, end):
        """A generator of `(step, dweights)`; an error at its end if they were not right."""
        (_, dz), dx = self._first(steps, x, rows, dlog_det, end)
        for step, dx, _, dweights in _pushed(steps, x, rows, dx, dlog_det):
            yield step, dweights
        tf.debugging.assert_less_equal(
            _distance(dx, dz), tf.cast(self.tolerance, dlog_det.dtype),
            "the derivative by z at the end of the sweep is not that of the loss: a step divides "
            "by a slope that is next to 0. Take another strategy")

    def _first(self, steps, x, rows, dlog_det, end):
        """`(what end returned, dx)`, by the first phase."""
        ends = []

        def known(z):
            ends.append(end(z))
            return ends[0]

        rows = rows._replace(of_weights=False)
        dx = self.input_gradient(steps, x, rows, dlog_det, known).dx
        return ends[0], dx


def _pushed(steps, x, rows, dx, dlog_det):
    """`(step, dx after it, log_det, dweights)` of each step, from x on."""
    x = after(dx, x)
    for step in steps:
        x, dx, log_det, dweights = step.vijp(x, rows, dx, dlog_det)
        x, dx = settled(rows, dweights, (x, dx))
        yield step, dx, log_det, dweights


def _distance(got, want):
    """`[n]`: the norm of the difference, relative to that of what is wanted."""
    def squares(state):
        return tf.add_n([dot(t, t) for t in tf.nest.flatten(state)])

    return tf.sqrt(tf.math.divide_no_nan(
        squares(tf.nest.map_structure(tf.subtract, got, want)), squares(want)))


def _flat(dx, log_det, dweights):
    return [*tf.nest.flatten(dx), log_det, *dweights]


def _like(flat, dx, log_det, dweights):
    """`(dx, log_det, dweights)` of `_flat`, with the shapes of those given."""
    for tensor, like in zip(flat, _flat(dx, log_det, dweights)):
        tensor.set_shape(like.shape)
    count = len(tf.nest.flatten(dx))
    return tf.nest.pack_sequence_as(dx, flat[:count]), flat[count], list(flat[count + 1:])
