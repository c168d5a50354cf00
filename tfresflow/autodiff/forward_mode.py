"""Gradients by forward passes alone, which keep nothing: exact, or by random directions."""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.batches.rows import dot, each
from tfresflow.checks.rules import check_whole
from tfresflow.functions.steps import Composed
from tfresflow.functions.sweep import Sweep, Swept, after
from tfresflow.saving.configurable import Configurable

__all__ = ["ForwardMode", "ProjectedForward"]


class _Forward(Configurable, Sweep):
    """The derivative of the loss along tangents of x and of weights, from x alone."""

    def __call__(self, steps, x, rows, dlog_det, end):
        outputs, dz = end(Composed(steps).value(x, rows))
        x = after(dz, x)
        dx, dweights = self._derivatives(steps, x, rows, dz, dlog_det)
        return Swept(outputs, dx, _log_det(steps, x, rows, dlog_det), dweights)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class ForwardMode(_Forward):
    """One pass for each weight and each number in x: exact, in the least memory, and slow.

    It is here for comparison, for small flows, and as the first phase of `Moonwalk`, which asks for
    the derivative by x alone.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> flow, x = InvertibleResidual(layers.InducedNormDense(2), [2]), tf.ones([3, 2])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> dx = [autodiff.gradients(flow, loss, x, seed=0, autodiff=kept)[2]
      ...       for kept in (autodiff.ForwardMode(), autodiff.Recomputed())]
      >>> bool(tf.reduce_all(abs(dx[0] - dx[1]) < 1e-4))
      True
    """

    def _derivatives(self, steps, x, rows, dz, dlog_det):
        def along(first, x, tx, tweights):
            return _along(steps[first:], x, rows, tx, tweights, dz, dlog_det)

        dx = tf.nest.pack_sequence_as(x, [
            _by_entries(lambda t, i=i: along(0, x, _only(x, i, t), None), own)
            for i, own in enumerate(tf.nest.flatten(x))])
        dweights = []
        for first, step in enumerate(steps):
            still = tf.nest.map_structure(tf.zeros_like, x)
            for i, weight in enumerate(step.weights):
                dweights.append(tf.zeros_like(weight) if not rows.of_weights else _by_numbers(
                    lambda t, i=i, x=x, first=first, still=still, own=step.weights: tf.reduce_sum(
                        along(first, x, still, _only(own, i, t))), weight))
            x = step.value(x, rows)
        return dx, dweights


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class ProjectedForward(_Forward):
    """The derivative along random directions, times them: unbiased, noisy, of forward passes alone.

    With u of independent standard normal numbers, one for each weight, and `g` the gradient, the
    mean of `u (u^T g)` is g. The variance of its entries is about `|g|^2` by the number of
    directions: that of the whole gradient, whatever the size of an entry's own.

    Args:
      directions: how many u the mean is taken over; each costs a forward pass.

    Raises:
      ValueError: if `directions` is no whole number of 1 or more.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual
      >>> from tfresflow import autodiff, layers
      >>> flow, x = InvertibleResidual(layers.InducedNormDense(2), [2]), tf.ones([3, 2])
      >>> loss = lambda z, log_det: tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
      >>> _, dweights, _ = autodiff.gradients(flow, loss, x, seed=0,
      ...                                     autodiff=autodiff.ProjectedForward(directions=2))
      >>> [d.shape for d in dweights]
      [TensorShape([2, 2]), TensorShape([2])]

    References: Baydin et al., Gradients without Backpropagation (2022).
    """

    directions: int = 1

    def __post_init__(self):
        check_whole("directions", self.directions, 1)

    def _derivatives(self, steps, x, rows, dz, dlog_det):
        weights = [step.weights for step in steps]
        own = seeds.as_seed(rows.seed)
        own = seeds.fold_in(own.seed if isinstance(own, seeds.Part) else own, rows.start)

        def directed(like, seed):
            flat = tf.nest.flatten(like)
            return tf.nest.pack_sequence_as(like, [
                tf.random.stateless_normal(tf.shape(t), s, dtype=t.dtype)
                for t, s in zip(flat, seeds.split(seed, max(1, len(flat))))])

        def of_weights(i):
            tweights = directed(weights, seeds.fold_in(own, 2 * i))
            along = tf.reduce_sum(_along(steps, x, rows, tf.nest.map_structure(
                tf.zeros_like, x), tf.nest.flatten(tweights), dz, dlog_det))
            return [along * t for t in tf.nest.flatten(tweights)]

        def of_x(i):
            tx = directed(x, seeds.fold_in(own, 2 * i + 1))
            along = _along(steps, x, rows, tx, None, dz, dlog_det)
            return [each(along, t) for t in tf.nest.flatten(tx)]

        def mean(function, like):
            if not like:
                return []
            total = tf.while_loop(
                lambda i, *_: i < self.directions,
                lambda i, *sums: (i + 1, *map(tf.add, sums, function(i))),
                (0, *map(tf.zeros_like, like)), parallel_iterations=1)[1:]
            return [t / self.directions for t in total]

        flat = tf.nest.flatten(weights)
        dweights = mean(of_weights, flat) if rows.of_weights else list(map(tf.zeros_like, flat))
        return tf.nest.pack_sequence_as(x, mean(of_x, tf.nest.flatten(x))), dweights


def _along(steps, x, rows, tx, tweights, dz, dlog_det):
    """`[n]`: the derivative of each example's loss along tangents of x and of weights.

    Args:
      tweights: of the first weights of all steps; None: zeros, as those that are not there.
    """
    tweights, found = list(tweights or []), []
    for step in steps:
        count = len(step.weights)
        own = [*tweights[:count], *map(tf.zeros_like, step.weights[len(tweights):])]
        tweights = tweights[count:]
        x, tx, tlog_det = step.jvp(after(tx, x), rows, tx, own)
        found.append(dlog_det * tlog_det)
    return tf.add_n([*found, *map(dot, tf.nest.flatten(tx), tf.nest.flatten(dz))])


def _log_det(steps, x, rows, dlog_det):
    """Of all steps, one after the other."""
    log_dets = []
    for step in steps:
        x = after(log_dets[-1:], x)
        z = step.value(x, rows)
        none = tf.nest.map_structure(tf.zeros_like, z)
        log_dets.append(step.vjp(x, rows._replace(of_weights=False), none, dlog_det)[1])
        x = z
    return tf.add_n(log_dets)


def _only(state, i, tangent):
    """Tangents of all tensors of a state, of which only the i-th moves."""
    return tf.nest.pack_sequence_as(state, [
        tangent if j == i else tf.zeros_like(t) for j, t in enumerate(tf.nest.flatten(state))])


def _by_numbers(function, weight):
    """The derivative by each number of a weight; `function` takes a tangent of it."""
    return tf.reshape(_by_basis(lambda e: function(tf.reshape(e, weight.shape)),
                                weight.shape.num_elements(), weight.dtype), weight.shape)


def _by_entries(function, x):
    """`[n, ...]`: the derivative by each entry of x; `function` takes a tangent, gives `[n]`."""
    found = _by_basis(lambda e: function(tf.ones_like(x) * tf.reshape(e, [1, *x.shape[1:]])),
                      math.prod(x.shape[1:]), x.dtype)
    return tf.reshape(tf.transpose(found), tf.shape(x))


def _by_basis(function, size, dtype):
    """`function` of each unit vector `[size]`, one at a time, as all would be `[size, size]`."""
    return tf.map_fn(lambda i: function(tf.one_hot(i, size, dtype=dtype)), tf.range(size),
                     fn_output_signature=dtype, parallel_iterations=1)
