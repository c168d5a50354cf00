"""A training step on any number of replicas: what Keras's own has to be replaced for.

Keras 3.15 trains under `tf.distribute`, but

  - clips each replica's gradient before the sum over replicas, so that what is learned depends on
    how many there are: here gradients are summed first, and the optimizer's own sum is left out;
  - takes the mean over replicas of their means, which is not the mean over examples where the
    last batch is uneven: here sums and counts are added;
  - `gradient_accumulation_steps` fails inside `tf.cond` (a merge call): here a batch is taken in
    `micro_batches` parts, with one sum over replicas and one update for all of them;
  - under `MultiWorkerMirroredStrategy`, builds the model symbolically from a value of many
    replicas and reduces scalars over their axis 0, and raises for both: models here are built
    before `fit`, and logs are read from the metrics.

`make_train_function` and `make_test_function` are what Keras documents for this purpose;
`_maybe_symbolic_build` and the optimizer's `_all_reduce_sum_gradients` are not documented. A
subclass with a `train_step` of its own gets Keras's function as it is.
"""

import contextlib
import functools
import warnings

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.batches.parts import in_parts
from tfresflow.checks.rules import check, check_whole, is_whole
from tfresflow.functions import upkeep
from tfresflow.training.given import examples
from tfresflow.training.gradient_of_sum import ByTape
from tfresflow.training.iterators import Kind, is_even
from tfresflow.training.packing import pack, pack_captures, unpack
from tfresflow.training.places import first_example

__all__ = ["DistributedModel", "NonFinite"]


class NonFinite(FloatingPointError):
    """More training steps in a row than `skip_nonfinite` had a loss or gradient that is not finite.

    Also raised if a weight is not finite when `fit` ends.

    Example:
      >>> from bijectors import ActNorm
      >>> from tfresflow import FlowModel, optimizers
      >>> model = FlowModel(ActNorm([1]))
      >>> model.compile(optimizers.Adam(1e38))
      >>> model.fit([[1.], [3.]], batch_size=1, verbose=0)
      Traceback (most recent call last):
        ...
      tfresflow.training.distributed.NonFinite: ...
    """


class DistributedModel(keras.Model):
    """A built `keras.Model` whose loss is a mean over examples, trained as if by one device.

    Subclasses define `example_losses(x, seed) -> [N]`, `update_metrics(x, losses, weights)` and, if
    need be, `after_update()`. Their `seed` is a `seeds.Part`: example i of the whole batch sees
    the same randomness whatever the number of replicas and micro-batches. What is minimised is
    `sum(weights * losses) / N` and the layers' regularisation losses: the metric `loss`, as in
    Keras.

    A step whose loss or gradient is not finite changes no weight. It counts as a step, and
    `skipped` counts how many there were in a row; more than `skip_nonfinite` raise `NonFinite`.
    """

    def __init__(self, *, seed=0, micro_batches=1, skip_nonfinite=0, **kwargs):
        super().__init__(**kwargs)
        check_whole("micro_batches", micro_batches, 1)
        check_whole("skip_nonfinite", skip_nonfinite, 0)
        check(is_whole(seed), "seed", "be a whole number", seed)
        self.seed, self.micro_batches, self.skip_nonfinite = seed, micro_batches, skip_nonfinite
        self.skipped = self.add_weight(name="skipped", shape=[], initializer="zeros",
                                       dtype="int32", trainable=False)
        # What Keras's callbacks watch unless told otherwise.
        self.loss_metric = keras.metrics.Mean(name="loss")
        self._last_batch = None

    def make_train_function(self, force=False):
        if self.train_function is not None and not force:
            return
        if getattr(self.optimizer, "gradient_accumulation_steps", None):
            raise ValueError("`gradient_accumulation_steps` of the optimizer must be None: give "
                             "the model micro_batches=k and batches of all k parts. Received: "
                             f"{self.optimizer.gradient_accumulation_steps}")
        if not self.optimizer.built:  # else Keras makes its variables in the trace: two traces
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        if type(self).train_step is not keras.Model.train_step:
            super().make_train_function(force)
            return
        if not self.trainable_variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        self.optimizer._all_reduce_sum_gradients = list  # they are summed already
        run = self.distribute_strategy.run

        def apply(*results):
            clip = self.optimizer.global_clipnorm
            # `_update` clips. Set here, as replicas are traced in turns.
            self.optimizer.global_clipnorm = None
            try:
                return run(self._update, (*results, clip))
            finally:
                self.optimizer.global_clipnorm = clip

        update = self._traced(apply)

        def after(finite, *results):
            # Two functions, not a `tf.cond` in one: that took a third longer to trace and twice the
            # memory, and the optimizer's merge calls may not be inside of a cond.
            if self.distribute_strategy.experimental_local_results(finite)[0]:
                update(*results)
            else:
                run(self._skip)
                if int(self.skipped.numpy()) > self.skip_nonfinite:
                    raise NonFinite(self._where_nonfinite())

        self.train_function = self._function(self._gradients, lambda: self.metrics, after)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._function(self._score, lambda: [
                m for m in self.metrics if m not in self.training_metrics])

    def _score(self, data, even):
        with self.scoring():
            found = self.test_step(data)
        names = [m.name for m in self.metrics]
        if unknown := sorted(set(found or ()) - set(names)):
            raise ValueError(f"`test_step` must return the results of metrics, {names}: values of "
                             "one batch alone would not be reported. Make them "
                             f"`keras.metrics.Mean`s of the model. Received: {unknown}")
        return ()

    @property
    def training_metrics(self):
        """Those of `metrics` that evaluation does not report."""
        return []

    def look_at(self, logs):
        """Called after each step, of training or evaluation, with what the metrics have come to."""

    def scoring(self):
        """The context of a step of evaluation, on each replica."""
        return contextlib.nullcontext()

    def _maybe_symbolic_build(self, *args, **kwargs):
        """Nothing: models here are built when they are made."""

    def _traced(self, function, signature=None):
        if self.run_eagerly:
            return function
        traced = tf.function(function, signature, autograph=False, jit_compile=self.jit_compile,
                             reduce_retracing=signature is None)
        return traced if self.jit_compile else pack_captures(traced)

    def _function(self, on_replica, metrics, after=lambda *results: None):
        """`on_replica(data, even)`, then `after` of its results, as Keras calls it: on an iterator.

        It returns what the metrics that `metrics` lists have come to.

        The shapes that a trace is for come from the iterator's type, which all workers share: one
        that traced again where others do not would no longer meet them in the sums.
        """
        iterators = tf.data.Iterator, tf.distribute.DistributedIterator

        def on_next(source):
            data, even = source, False
            if isinstance(source, iterators):
                data, even = source.get_next(), is_even(source)
            step = self._autoconvert_optionals(functools.partial(on_replica, even=even))
            results = self.distribute_strategy.run(step, (data,))
            return {m.name: m.result() for m in metrics()}, data, results

        @functools.lru_cache(maxsize=None)
        def traced(kind):
            return self._traced(on_next, [kind.spec])

        on_batch = self._traced(on_next)

        def function(iterator):
            logs = None
            for _ in range(self.steps_per_execution):
                try:
                    if isinstance(iterator, iterators):
                        logs, self._last_batch, results = traced(Kind(iterator))(iterator)
                    else:  # of `train_on_batch`: a list of one
                        logs, self._last_batch, results = on_batch(next(iterator))
                except (StopIteration, tf.errors.OutOfRangeError):
                    if logs is None:
                        raise
                    break
                after(*results)
                self.look_at(logs)
            return logs

        return function

    # Of one replica -------------------------------------------------------------------------

    def _gradients(self, data, even):
        """Whether the gradient is finite, and what `_update` takes."""
        x, weights = examples(data)
        step = tf.convert_to_tensor(self.optimizer.iterations.value)
        context = tf.distribute.get_replica_context()
        losses, gradients, *others = self._sums(x, weights, self.seed_of(step, x, even))
        weights, count = tf.cast(weights, losses.dtype), tf.cast(tf.shape(x)[0], losses.dtype)
        total = tf.reduce_sum(weights * losses)
        packed = pack(gradients, self.trainable_values())
        if context.num_replicas_in_sync > 1:
            *packed, total, count = context.all_reduce("SUM", [*packed, total, count])
        # Squares, as a norm past the float's range makes clipping NaN.
        squares = tf.add_n([tf.zeros([], total.dtype)] + [
            2 * tf.cast(tf.nn.l2_loss(g), total.dtype) for g in packed])
        finite = tf.math.is_finite(total) & tf.math.is_finite(squares)
        skipped = tf.where(finite, 0, tf.convert_to_tensor(self.skipped.value) + 1)
        self.skipped.assign(skipped)
        tolerated = ~finite & (skipped <= self.skip_nonfinite)
        counted = 1.0 - tf.cast(tolerated, losses.dtype)
        losses, *others = (tf.where(tolerated, tf.zeros_like(t), t) for t in (losses, *others))
        self.update_loss(losses, weights, counted)
        self.update_metrics(x, losses, weights * counted, *others)
        return finite, packed, count, squares

    def update_loss(self, losses, weights, counted=1.0):
        """What is minimised, as a mean over examples: of a step that is not `counted`, nothing."""
        values = tf.cast(weights, losses.dtype) * losses
        if self.losses:
            values += tf.cast(tf.add_n(self.losses), values.dtype)
        self.loss_metric.update_state(values, counted * tf.ones_like(values))

    def find_nonfinite(self):
        """Where the last step of training first was not finite, in words; empty if unknown."""
        return ""

    def check_weights(self):
        """Raises `NonFinite` if a weight is not: the last gradient was not, while the loss was."""
        for weight in self.trainable_variables:
            if not np.isfinite(weight.numpy()).all():
                raise NonFinite(f"the weight {weight.path} is not finite at step "
                                f"{int(self.optimizer.iterations.numpy())}")

    def _where_nonfinite(self):
        found = self.find_nonfinite()
        return (f"the loss or the gradient is not finite at step "
                f"{int(self.optimizer.iterations.numpy())}"
                + (f"; first bad: {found}" if found else ""))

    @upkeep.kept()
    def _sums(self, x, weights, part):
        """Losses `[N]`, gradients of their weighted sum, what metrics take; in micro-batches."""
        gradient = self.gradient_of_sum(x, part)
        n, k = tf.shape(x)[0] if x.shape[0] is None else x.shape[0], self.micro_batches
        batched = [x, weights, tf.range(n)]
        events = [[]] * gradient.num_outputs
        (losses, *others), sums = gradient.sum(*batched) if k == 1 else in_parts(
            gradient.sum, batched, -(-n // k), events, gradient.like,
            [self.variable_dtype] * len(events))
        return losses, gradient.by_variables(sums, weights), *gradient.without_errors(others)

    def gradient_of_sum(self, x, part):
        """The gradient of the sum of the losses over a batch, see `gradient_of_sum.py`.

        Args:
          x: this replica's share of the batch.
          part: `seeds.Part` of it.
        """
        return ByTape(self, x, part)

    def _update(self, packed, count, squares, clip):
        """The optimizer's update.

        Args:
          packed: the gradient of the sum of the losses over the whole batch, see `packing.pack`.
          count: examples in it.
          squares: the squared norm of the gradient.
          clip: the largest norm of the mean gradient; None or not positive: any.
        """
        if not packed:  # all layers are frozen
            return self._skip()
        scale = 1 / count
        if clip and clip > 0:  # as Keras reads it
            scale *= clip / tf.maximum(tf.sqrt(squares) / count, clip)
        packed = [g * tf.cast(scale, g.dtype) for g in packed]
        gradients = unpack(packed, self.trainable_values())
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
        self.after_update()
        return True

    def trainable_values(self):
        """The `tf.Variable`s of the trainable weights."""
        return [v.value for v in self.trainable_variables]

    def _skip(self):
        self.optimizer.iterations.assign_add(1)
        return True

    def after_update(self):
        """Called on each replica after the optimizer's update."""

    def seed_of(self, step, x, even=False):
        """The `seeds.Part` of this replica's share `x` of the batch of a step.

        Args:
          step: integer.
          x: `[N, ...]`.
          even: whether all replicas have as many examples; else they ask each other.
        """
        return seeds.Part(seeds.fold_in(self.seed, tf.cast(step, tf.int32)),
                          first_example(x, even))
