"""The gradient of the sum of the losses over a batch, a part of the batch at a time.

    .sum(x, weights, places) -> (outputs, sums)     of a part: rows `places` of the batch
    .num_outputs                                    losses, what metrics take beside them, errors
    .without_errors(outputs)                        errors reported and left out
    .like                                           tensors of the shapes of the sums
    .by_variables(sums, weights) -> gradients       of the whole batch
"""

import tensorflow as tf

from tfresflow.batches import parts, seeds, threads
from tfresflow.functions.steps import Rows, bind

__all__ = ["ByFlow", "ByTape", "measured"]


class ByTape:
    """For any model with `example_losses(x, part)`: by one tape around them.

    Args:
      model: a `DistributedModel`.
      x: the batch.
      part: its `seeds.Part`.
    """

    num_outputs = 1

    def __init__(self, model, x, part):
        del x
        self._model, self._part = model, part
        self.like = model.trainable_values()

    def sum(self, x, weights, places):
        model, start = self._model, tf.cast(Rows(places).start, tf.int64)
        with tf.GradientTape() as tape:
            losses = model.example_losses(x, seeds.Part(self._part.seed, self._part.first + start))
            total = tf.reduce_sum(tf.cast(weights, losses.dtype) * losses)
            if model.losses:
                total += tf.cast(tf.shape(x)[0], total.dtype) * tf.add_n(model.losses)
        found = tape.gradient(total, self.like, unconnected_gradients="zero")
        return [losses], list(map(tf.convert_to_tensor, found))  # sparse ones of embeddings, too

    def without_errors(self, outputs):
        return outputs

    def by_variables(self, sums, weights):
        del weights
        return sums


class ByFlow:
    """For a `FlowModel`'s negative log-likelihood: `model.autodiff` goes through the flow.

    If that measures the error of its gradient, `sum` gives it last.

    Norms, regularisers and losses of orders, which all parts share, are differentiated once.

    Args:
      model, x, part: see `ByTape`.
    """

    num_outputs = 1

    def __init__(self, model, x, part):
        self._model, self._count, self._seed = model, tf.shape(x)[0], part
        if model.autodiff.tolerance is not None:
            self.num_outputs += 1
        with tf.GradientTape() as self._tape:
            self._bound = bind(model.rows_flow, part, x.shape[0], self._cast(x).dtype)
            self._orders, self._regularisers = model.order_losses(), model.losses
        of_flow = {id(v.value) for layer in model.flow_layers for v in layer.trainable_variables}
        shared = {id(v) for v in getattr(model.base, "trainable_variables", ())}
        self._of_base = [v for v in model.trainable_values()
                         if id(v) not in of_flow or id(v) in shared]
        self.like = [*self._bound.weights, *self._of_base]

    def sum(self, x, weights, places):
        x = self._cast(x)
        if x.shape[0] == 0:
            return ([tf.zeros([0], x.dtype)] * self.num_outputs,
                    list(map(tf.zeros_like, self.like)))
        run = parts.side_by_side(self._sum, 4) if threads.are_prepared() else self._sum
        batched, cut = parts.padded(1, [x, tf.cast(weights, x.dtype), places])
        outputs, sums = run(*batched)
        return cut(outputs), sums

    def without_errors(self, outputs):
        if self._model.autodiff.tolerance is None:
            return outputs
        *outputs, errors = outputs
        self._model.report_errors(errors)
        return outputs

    def by_variables(self, sums, weights):
        count = len(self._bound.weights)
        targets, cotangents = list(self._bound.weights), list(sums[:count])
        for losses, factor in ((self._orders, tf.reduce_sum(weights)),
                               (self._regularisers, self._count)):
            targets += losses
            cotangents += [tf.cast(factor, loss.dtype) for loss in losses]
        of_base = {id(v): d for v, d in zip(self._of_base, sums[count:])}
        values = self._model.trainable_values()
        found = self._tape.gradient(targets, values, cotangents, unconnected_gradients="zero")
        return [d + of_base[id(v)] if id(v) in of_base else d for v, d in zip(values, found)]

    def _cast(self, x):
        return self._model.as_weights(x)

    def _sum(self, x, weights, places):
        def end(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                log_prob = self._model.base.log_prob(z)
            dz, *of_base = tape.gradient(log_prob, [z, *self._of_base], -weights,
                                         unconnected_gradients="zero")
            return (log_prob, of_base), dz

        (log_prob, of_base), _, log_det, dweights, error = self._model.autodiff(
            self._bound.steps, x, self._rows(places), -weights, end)
        return [-log_prob - log_det, *measured([error])], [*dweights, *of_base]

    def _rows(self, places):
        return Rows(places, seed=self._seed)


def measured(errors):
    """The largest of the errors for each example, in a list that is empty if none is measured."""
    errors = [e for e in errors if e is not None]
    return [tf.reduce_max(tf.stack(errors), axis=0)] if errors else []
