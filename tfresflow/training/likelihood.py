"""How Keras trains and scores a density by its likelihood."""

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks import inputs
from tfresflow.functions import upkeep
from tfresflow.functions.branch import update_norms
from tfresflow.losses import bits_per_dim
from tfresflow.training.averages import AveragedModel
from tfresflow.training.given import examples

__all__ = ["LikelihoodModel"]


class LikelihoodModel(AveragedModel):
    """Minimises the mean of `compute_nll(x, seed, flow=None) -> [N]`, which subclasses define.

    They also set `flow`, `rows_flow`, `eval_flow`, `scale_bits`, `norm_layers` and `eval_step`,
    an integer weight.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.nll_metric, self.bpd_metric = (keras.metrics.Mean(name=n) for n in ("nll", "bpd"))
        self._have_changed = None

    @property
    def trains_density(self):
        """Whether the density counts in the loss."""
        return True

    def example_losses(self, x, seed):
        """What a training step minimises, `[N]`: `compute_nll`, and losses of learned orders."""
        nll, orders = self.compute_nll(x, seed), self.order_losses()
        if not orders:
            return nll
        # Of value 0: learned orders make the norms small beside the loss of the data.
        loss = tf.add_n(orders)
        return nll + tf.cast(loss - tf.stop_gradient(loss), nll.dtype)

    def order_losses(self):
        """The losses that train learned orders of norms, a list of scalars."""
        return [loss for layer in self.norm_layers if (loss := layer.order_loss()) is not None]

    def make_train_function(self, force=False):
        # A step takes norms as it finds them. One call to look after all is cheap enough for each
        # `train_on_batch`.
        if self._have_changed is None:
            self._have_changed = self._traced(lambda: upkeep.any_changed(self.norm_layers))
        if self._have_changed():
            upkeep.catch_up(self.norm_layers)
        super().make_train_function(force)

    def after_update(self):
        update_norms(self.norm_layers)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data):
        x, weights = examples(data)
        # Another stream than training's, whose steps are not negative.
        seed = self.seed_of(-1 - tf.convert_to_tensor(self.eval_step.value), x)
        self.eval_step.assign_add(1)
        losses, *others = self.example_scores(x, seed)
        self.update_loss(losses, weights)
        self.update_metrics(x, losses, weights, *others)
        return {m.name: m.result() for m in self.metrics}

    def example_scores(self, x, seed):
        """What evaluation averages: losses `[N]`, then what `update_metrics` takes beside them."""
        return [self.compute_nll(x, seed, self.eval_flow)]

    def update_metrics(self, x, losses, weights):
        self.nll_metric.update_state(losses, weights)
        if self.scale_bits is not None:
            bpd = bits_per_dim(losses, self.size_of(x), self.scale_bits)
            self.bpd_metric.update_state(bpd, weights)

    @property
    def metrics(self):
        density = [self.nll_metric] + ([] if self.scale_bits is None else [self.bpd_metric])
        of_model = [self.loss_metric, self.nll_metric, self.bpd_metric]
        others = [m for m in self._metrics if not any(m is own for own in of_model)]
        # Others: of a subclass.
        return [self.loss_metric, *(density if self.trains_density else []), *others]

    def find_nonfinite(self):
        """Where the last step of training first was not finite: for an error message.

        Such a step changes no weight, so it can be done again, block by block. The shares of other
        workers are not looked at.
        """
        step = self.optimizer.iterations.value - 1
        strategy = self.distribute_strategy
        found = strategy.run(self._find_nonfinite, (self._last_batch, step))
        found = [f for f in strategy.experimental_local_results(found) if f]
        return found[0] if found else "in the share of another worker"

    def refresh_norms(self, num_steps=1000):
        """Finds all norms anew, in many steps: after weights were swapped or loaded."""
        for layer in self.norm_layers:
            layer.refresh_norm(num_steps)

    def _find_nonfinite(self, data, step):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        seed = self.seed_of(step, x)  # first: replicas may ask each other for it
        if found := inputs.first_nonfinite(x):
            return f"the data, in {inputs.place(found)} of the batch"
        find = getattr(self.rows_flow, "find_nonfinite", lambda x, seed: None)
        if found := find(x, seed):
            return f"the value of block {found}"
        with tf.GradientTape() as tape:
            nll = self.compute_nll(x, seed)
        if not np.isfinite(nll).all():
            return "the density of the base distribution"
        gradients = tape.gradient(nll, [v.value for v in self.trainable_variables])
        bad = {v.path for v, g in zip(self.trainable_variables, gradients)
               if g is not None and not np.isfinite(tf.nn.l2_loss(g))}
        blocks = self.flow.named_layers() if hasattr(self.flow, "named_layers") else {}
        # Backward: the last block is the first.
        return next((f"the gradient of block {name}" for name, layers in reversed(blocks.items())
                     if bad & {v.path for layer in layers for v in layer.trainable_variables}),
                    f"the gradient of {sorted(bad)[0]}" if bad else "")
