"""How Keras trains and scores a flow by a divergence from a density, see `losses/kl.py`."""

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check, check_whole
from tfresflow.importance import Weighted
from tfresflow.losses.kl import Divergence
from tfresflow.targets import as_target
from tfresflow.training.gradient_of_sum import ByFlow

__all__ = ["ByTarget", "OfTarget"]

_BATCH_SIZE = 256
_STREAMS = {True: 2 ** 20, False: 2 ** 20 + 1}  # of seeds: of training, of evaluation


class ByTarget(ByFlow):
    """`ByFlow` of a model that was compiled with a `Divergence`; x is where its samples begin."""

    def __init__(self, model, x, part):
        super().__init__(model, x, part)
        self.num_outputs = 1  # `model.autodiff` plays no part, nor does the error that it measures
        for step in self._bound.steps:
            check(step.is_bijection, "flow", "be of bijections, without noise that is drawn, for "
                  f"{type(model.divergence).__name__}", model.flow.name)

    def without_errors(self, outputs):
        return outputs

    def _cast(self, x):
        return tf.cast(x, self._model.variable_dtype)

    def _sum(self, x, weights, places):
        found = self._model.divergence.sampled(
            self._bound.steps, x, self._rows(places), weights, self._model.base,
            lambda log_prob, y: self._end(log_prob, y, weights))
        return [found.losses], [d for own in found.dweights for d in own] + found.others

    def _end(self, log_prob, y, weights):
        """`(log_prob(y), its derivative, those of the base's variables in the loss)`."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(y)
            value = log_prob(y)
        dy = tape.gradient(value, y, unconnected_gradients="zero")
        return value, dy, tape.gradient(value, self._of_base, -weights,
                                        unconnected_gradients="zero")


class OfTarget:
    """Mixin of a `keras.Model`: `compile(loss=)` takes a `Divergence`; without, it does nothing.

    Attributes:
      divergence: that was compiled with, or None.
    """

    divergence = ess_metric = None

    def compile(self, optimizer="rmsprop", loss=None, **kwargs):
        divergence = loss if isinstance(loss, Divergence) else None
        if divergence is not None:
            check(self.head is None, "loss", "be None for a model with a head", loss)
            divergence.check(self.flow, self.base)
        super().compile(optimizer, loss if divergence is None else None, **kwargs)
        self.divergence = divergence
        if divergence is not None and self.ess_metric is None:
            self.ess_metric = keras.metrics.Mean(name="ess")

    def get_compile_config(self):
        config = super().get_compile_config()
        if self.divergence is not None:
            config["loss"] = keras.saving.serialize_keras_object(self.divergence)
        return config

    @property
    def begins_with_latents(self):
        """Whether a step is given latents, and no data."""
        return self.divergence is not None and self.divergence.begins_with_base

    @property
    def metrics(self):
        idle = [self.ess_metric] if self.divergence is None else self.training_metrics
        return [m for m in super().metrics if not any(m is other for other in idle)]

    @property
    def trains_density(self):
        """Whether `nll` is reported."""
        return self.divergence is None and super().trains_density

    def draws(self, x):
        """Whether `fit` or `evaluate` with this x draws its own samples."""
        if self.begins_with_latents:
            check(x is None, "x", f"be None: {type(self.divergence).__name__} draws its samples", x)
        return self.divergence is not None and x is None

    def drawn(self, batch_size, steps, training):
        """A pipeline without end of what samples begin with, batch i drawn of a seed of its own.

        Args:
          batch_size: of a batch; None: 256.
          steps: how many batches are asked for.
          training: whether it is for `fit`, which goes on where it was, or for `evaluate`.
        """
        check_whole("steps_per_epoch" if training else "steps", steps, 1)
        batch_size = _BATCH_SIZE if batch_size is None else batch_size
        check_whole("batch_size", batch_size, 1)
        seed = seeds.fold_in(seeds.as_seed(self.seed), _STREAMS[training])
        first = int(self.optimizer.iterations.numpy()) if training else 0
        divergence, base = self.divergence, self.base
        return tf.data.Dataset.counter(first).map(lambda i: divergence.draw(
            base, batch_size, seeds.fold_in(seed, tf.cast(i, tf.int32)))).prefetch(tf.data.AUTOTUNE)

    def sample_importance(self, n, target=None, seed=0, batch_size=1024):
        """Samples, weighed to be those of a target, with the estimator `eval_log_det`.

        `eval_log_det=logdet.Exact()` gives weights without noise; up to 64 numbers it is the
        default.

        Args:
          n: how many.
          target: a density, as `targets.as_target` takes it; default that of the loss the model was
            compiled with.
          seed: integer.
          batch_size: of the samples that are computed at a time.

        Returns:
          An `importance.Weighted`: weights, log Z with its error, effective size, a Markov chain.

        Raises:
          ValueError: if an argument is not what it should be.
          tf.errors.InvalidArgumentError: if the inverse does not converge.

        Example:
          >>> from bijectors import ActNorm
          >>> from tfresflow import FlowModel, losses, targets
          >>> model = FlowModel(ActNorm([2]))                           # a standard normal
          >>> target = targets.GaussianMixture(locs=[[0.0, 0.0]], variance=1.0)
          >>> samples = model.sample_importance(100, target, seed=0)
          >>> samples.x.shape, round(samples.effective_size, 3)
          ((100, 2), 1.0)
        """
        check_whole("n", n, 1)
        check_whole("batch_size", batch_size, 1)
        check(target is not None or self.divergence is not None, "target",
              "be given to a model that was not compiled with a `ReverseKL` or `ForwardKL`", target)
        target = self.divergence.target if target is None else as_target(target)
        Divergence(target).check(self.flow, None)
        weigh, seed = self._weighing(target), seeds.as_seed(seed)
        found = [weigh(self.base.sample(batch_size, seed=own[0]), own[1]) for own in (
            seeds.split(seeds.fold_in(seed, i), 2) for i in range(-(-n // batch_size)))]
        return Weighted(*(np.concatenate(part)[:n] for part in zip(*found)))

    def _weighing(self, target):
        """`(z, seed) -> (x, log weights, log q)`, traced once for a target."""
        kept, function = getattr(self._kept, "weighing", (None, None))
        if kept is not target:
            def weigh(z, seed):
                x, log_det = self.eval_flow.inverse_and_log_det(z, seed)
                log_q = self.base.log_prob(z) - log_det
                return x, target.log_prob(x) - log_q, log_q

            function = tf.function(weigh, autograph=False)
            self._kept.weighing = target, function
        return function

    def example_scores(self, x, seed):
        if self.divergence is None:
            return super().example_scores(x, seed)
        x = tf.cast(x, self.variable_dtype)
        return [self.divergence.losses(self.eval_flow, self.base, x, seed)]

    def _find_nonfinite(self, data, step):
        if not self.begins_with_latents:
            return super()._find_nonfinite(data, step)
        z, seed = tf.cast(data, self.variable_dtype), self.seed_of(step, data)
        x, log_det = self.flow.inverse_and_log_det(z, seed)
        for found, where in ((x, "a sample of the flow"), (log_det, "a log-determinant"),
                             (self.divergence.target.log_prob(x), "the target's log_prob")):
            if not tf.reduce_all(tf.math.is_finite(found)):
                return where
        return "the gradient"

    def update_metrics(self, x, losses, weights, *others):
        if self.divergence is None:
            super().update_metrics(x, losses, weights, *others)
            return
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            losses = context.all_gather(losses, axis=0)
        self.ess_metric.update_state(self.divergence.effective_size(losses))
