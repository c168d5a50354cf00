"""A Keras model of a density: any flow, any base distribution."""

import functools
import math

import keras
import tensorflow as tf

from tfresflow.autodiff import Recomputed
from tfresflow.batches import seeds
from tfresflow.batches.draws import log_mean_exp
from tfresflow.checks.members import check_base, check_flow, check_nbits, latent_of
from tfresflow.checks.precision import check_float
from tfresflow.checks.rules import check, check_number, check_whole
from tfresflow.functions.branch import norm_layers
from tfresflow.functions.steps import Rows, bind, say_together
from tfresflow.functions.sweep import check_sweep
from tfresflow.logdet.base import check_estimator
from tfresflow.logdet.exact import Exact, is_small
from tfresflow.losses import StandardNormal, bits_per_dim
from tfresflow.saving.adopted import adopted
from tfresflow.saving.whole import SavedWhole
from tfresflow.serving import Exported
from tfresflow.training import start
from tfresflow.training.averages import AveragedModel
from tfresflow.training.by_target import ByTarget, OfTarget
from tfresflow.training.compiling import less_is_better
from tfresflow.training.given import check_trained
from tfresflow.training.gradient_of_sum import ByFlow
from tfresflow.training.hybrid import ByHead, Hybrid
from tfresflow.training.joined import as_rows
from tfresflow.training.likelihood import LikelihoodModel
from tfresflow.training.measured import Measured
from tfresflow.training.of_rows import OfRows
from tfresflow.training.on_batch import OnBatch

__all__ = ["FlowModel"]

_LOSS = "compute_nll", "example_losses"  # what a subclass may override


@keras.saving.register_keras_serializable("tfresflow")
class FlowModel(SavedWhole, Exported, OfTarget, Hybrid, OfRows, OnBatch, Measured,
                LikelihoodModel):
    """`log p(x) = log p_base(f(x)) + log |det df/dx|`, trained by maximum likelihood.

    `compile(optimizer)`, `fit(dataset of x)`, `evaluate`, and `predict`, which gives `log p(x)`.
    The loss is the mean negative log-likelihood in nats: an unbiased estimate wherever the flow's
    log-determinant is one. `sample_weight` weighs examples; labels are ignored. As in Keras,
    the entry `loss` of the logs is what is minimised, `sum(w l) / N` plus the regularisers of
    layers, and `nll` is a weighted metric, `sum(w l) / sum(w)`. Without sample weights and
    regularisers they are equal.

    With a flow that takes a context it is the model of `log p(x | c)`. What Keras takes as x is
    then `(x, context)`, `{"x": x, "context": context}`, or x alone with the context as the labels
    y; other methods take `context=`. Where a context is `[1]`, numbers `[N]` will do.

    x may be numbers of any type, in arrays, tensors, lists or DataFrames, or a pipeline of batches;
    they are cast to the type of the flow's weights. `fit` sets the ActNorms of a new flow from the
    data (a whole array, or several batches of a pipeline) before its first step, unless the flow
    was trained or initialized before. `train_on_batch` does not: call `initialize(x)` before it.

    Power iteration updates the norms after each training step. With `use_ema=True` in the optimizer
    `evaluate` (so also validation in `fit`), `predict`, `get_weights`, `save` and `save_weights`
    use the averaged weights, and `fit` ends with them (see `averages.py`). `log_prob`, `sample` and
    the flow itself use the trained weights; during training, call them within
    `averaged_weights()` to use the averages.

    Args:
      flow: has `forward_and_log_det(x, seed) -> (z, log_det [N])`, `inverse_alone(z)` and
        `layers`; `seed` is whatever `seeds.as_seed` takes, a `seeds.Part` too. It needs
        `event_shape` and `latent_shape(event_shape)` if no `base` is given, `with_log_det(log_det)`
        for `eval_log_det`, and `initialize(x)` if it has data-dependent weights.
      base: distribution of z with `log_prob(z) -> [N]` and `sample(n, seed=)`; default standard
        normal, of the dtype of the flow's weights.
      nbits: for images quantised to `2^nbits` levels and scaled to [0, 1): report bits/dim
        beside nats. None for a flow that takes the levels themselves, a `Chain` that ends in a
        `bijectors.Dequantize`, of which `log p` is a bound of log P, and which says its own.
      eval_log_det: estimator outside of training; default exact up to 64 columns, else the flow's.
      autodiff: what a training step keeps between the forward and the backward pass, one of
        `tfresflow.autodiff`; default `Recomputed()`: the input of each block. It has no effect in a
        subclass that overrides the loss (`compute_nll`, `example_losses`): one tape around the loss
        differentiates it, and each block keeps what the `memory` of its `LogDet` keeps.
      seed: integer; all randomness follows from it and from the place of an example in its batch,
        so it does not depend on the number of replicas.
      micro_batches: number of parts in which a batch is processed, one after the other, to save
        memory.
      skip_nonfinite: how many steps in a row may have a loss or gradient that is not finite; the
        metrics leave them out. One more ends training with `NonFinite`. No such step changes a
        weight. If 0, arrays that are not finite are refused before the first step.
      head: a Keras layer or model, from what the scales of the flow end with (a list of maps; of a
        flow without scales from z) to logits `[N, classes]`: a classifier beside the density. The
        labels y, whole numbers, then count; `accuracy` is a metric, `classify(x)` gives
        probabilities. See `flows.scale_head`.
      weight: with a head, of bits/dim in the loss, beside the cross-entropy in nats.
      name: of the model.

    Raises:
      ValueError: if `flow` holds a trainable `tf.Variable` outside its layers, or an argument is
        not what it should be. (The variables of a TFP `base` are trained, but not with `use_ema`.)

    Made in the scope of a `tf.distribute` strategy, it trains there, to the same weights as on one
    device (see `distributed.py`). A layer class of your own whose norm must follow its weights
    needs `update_norms`, `refresh_norm`, `order_loss` and `vectors`, as in
    `layers.induced_norm.InducedNorm`.

    Example:
      >>> from bijectors import ActNorm
      >>> from tfresflow import FlowModel
      >>> x = [[1., 10.], [3., 14.]]
      >>> model = FlowModel(ActNorm([2]))                 # or toy_flow(), image_flow([28, 28, 1])
      >>> model.compile("adam")
      >>> _ = model.fit(x, verbose=0)                     # a normal, of deviations 1 and 2 here
      >>> [round(float(log_p), 1) for log_p in model.log_prob(x)]     # -log(2 pi e) - log(1 * 2)
      [-3.5, -3.5]
      >>> model.sample(5, seed=0).shape
      TensorShape([5, 2])

    References: Chen et al., Residual Flows (2019).
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "gradient_of_sum", *_LOSS, by=AveragedModel)

    def __setattr__(self, name, value):
        if name in _LOSS:  # said anew for this model alone
            self.gradient_of_sum = functools.partial(AveragedModel.gradient_of_sum, self)
        super().__setattr__(name, value)

    def __init__(self, flow, base=None, *, nbits=None, eval_log_det=None, autodiff=None, seed=0,
                 micro_batches=1, skip_nonfinite=0, head=None, weight=1.0, name=None, **kwargs):
        check_flow(flow)
        floats = [w.dtype for layer in flow.layers for w in layer.weights if "float" in w.dtype]
        kwargs = {"dtype": floats[0] if floats else None, **kwargs}
        super().__init__(seed=seed, micro_batches=micro_batches, skip_nonfinite=skip_nonfinite,
                         name=name, **kwargs)
        check_float(self)
        self.supports_jit = False  # so "auto" leaves XLA off: on CPU its convolutions are slower
        check_nbits(nbits)
        check(nbits is None or getattr(flow, "nbits", None) is None, "nbits",
              "not be given where the flow takes levels, of so many bits", nbits)
        check_estimator("eval_log_det", eval_log_det)
        check_sweep(Recomputed() if autodiff is None else autodiff)
        self.flow = flow
        self.rows_flow = as_rows(flow, head is not None)
        self.take_strategy(Recomputed() if autodiff is None else autodiff)
        latent = latent_of(flow, base)
        self.base = StandardNormal(latent, self.variable_dtype) if base is None else base
        check_base(self.base, latent, floats[0] if floats else None)
        self._config = {"flow": flow, "base": base, "nbits": nbits, "eval_log_det": eval_log_det,
                        "autodiff": autodiff, "seed": seed, "micro_batches": micro_batches,
                        "skip_nonfinite": skip_nonfinite, "head": head, "weight": weight,
                        "name": self.name, **kwargs}
        self.nbits = nbits
        eval_log_det = Exact() if eval_log_det is None and is_small(flow) else eval_log_det
        self.eval_flow = as_rows(
            flow.with_log_det(eval_log_det) if eval_log_det is not None else flow,
            head is not None)
        # Keras does not look into bijectors: a list of layers it sees, trains and saves.
        self.flow_layers = list(flow.layers)
        for layer in () if self.trainable else self.flow_layers:  # said before they were there
            layer.trainable = False
        self.norm_layers = norm_layers(self.flow_layers)
        self.initialized, self.eval_step = (
            self.add_weight(name=n, shape=[], initializer="zeros", dtype="int32", trainable=False)
            for n in ("initialized", "eval_step"))
        self.built = True
        self.base_layer = adopted(self.base, self, "base_layer")
        self.take_head(head, weight)
        check_trained(self)

    # Densities ------------------------------------------------------------------------------

    def compute_nll(self, x, seed, flow=None):
        """`-log p(x)`, `[N, ...] -> [N]`, nats; `flow` defaults to the one that is trained.

        Of a conditional model x is joined rows, see `as_weights`.
        """
        z, log_det = (flow or self.rows_flow).forward_and_log_det(self.as_weights(x), seed)
        return -self.base.log_prob(z) - log_det

    @tf.autograph.experimental.do_not_convert
    def log_prob(self, x, seed=None, context=None, draws=1):
        """`log p(x)`, or `log p(x | c)`, `[N]` nats, with the estimator `eval_log_det`.

        If that is stochastic, random without a `seed`; `predict` and `evaluate` are repeatable.

        Args:
          x: `[N, ...]`.
          seed: as for `seeds.as_seed`.
          context: of a conditional flow, `[N, ...]`, or one for all rows.
          draws: of a flow with `bijectors.Dequantize`, K: the log of the mean over K draws of the
            noise, a bound that is tighter (importance-weighted).
        """
        x = self.as_weights(self._with(x, context))
        return log_mean_exp(lambda own: -self.compute_nll(x, own, self.eval_flow), seed, draws)

    @tf.autograph.experimental.do_not_convert
    def log_prob_bounds(self, x, seed=None, context=None, draws=1):
        """`(lower, upper)`, `[N]` each, nats: `log p(x)` for the probes of `seed` is between.

        Their mean over probes bounds `log p(x)`. They are equal where the log-determinant is exact,
        and infinite where `eval_log_det` gives none: `logdet.Bracket` does.

        Args:
          x, seed, context, draws: see `log_prob`.
        """
        x = self.as_weights(self._with(x, context))

        def bounds(own):
            step = bind(self.eval_flow, own, x.shape[0], x.dtype)
            z, *both = step.bounds(x, Rows(tf.range(tf.shape(x)[0])))
            return self.base.log_prob(z) + tf.stack(both)

        return tuple(tf.unstack(log_mean_exp(bounds, seed, draws)))

    def bits_per_dim(self, x, seed=None, context=None):
        """Bits per dimension, `[N, ...] -> [N]`, as `log_prob`; `ValueError` without `nbits`."""
        check(self.scale_bits is not None, "nbits", "be given to FlowModel for bits/dim", None)
        x = self.as_weights(self._with(x, context))
        nll = self.compute_nll(x, seeds.as_seed(seed), self.eval_flow)
        return bits_per_dim(nll, self.size_of(x), self.scale_bits)

    @tf.autograph.experimental.do_not_convert
    def sample(self, n, seed=None, temperature=1.0, context=None):
        """Draws `[n, ...]`, the inverse of `temperature` times a draw of `seed` from the base.

        Args:
          n: how many; of a conditional flow, for each context.
          seed: as for `seeds.as_seed`.
          temperature: factor of the latents.
          context: of a conditional flow, one `[...]`, or a batch of them `[B, ...]`, for which the
            result is `[n, B, ...]`.

        Raises:
          tf.errors.InvalidArgumentError: if the inverse does not converge.
        """
        if not tf.is_tensor(n):
            check_whole("n", n, 0)
        if not tf.is_tensor(temperature):
            check_number("temperature", temperature, "not be negative",
                         lambda value: 0 <= value < math.inf)
        return self.inverse_of(lambda n: temperature * self.base.sample(
            n, seed=seeds.as_seed(seed)), n, context)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, x, *args, **kwargs):
        # Here, as Keras takes tensors only; of a conditional flow, pairs of them.
        x = x if isinstance(x, keras.KerasTensor) else self.as_weights(x)
        return super().__call__(x, *args, **kwargs)

    # Training -------------------------------------------------------------------------------

    def fit(self, x=None, y=None, batch_size=None, *args, **kwargs):
        """As in Keras; first sets data-dependent weights, if nothing in the flow is set yet.

        Raises:
          NonFinite: the loss, the gradient, or a weight in the end, is not finite.
          ValueError: x is not what the flow takes, or not finite; before a weight changes.
        """
        self._assert_compile_called("fit")  # before a weight is set
        given = self._given(super().fit, x, y, batch_size, *args, **kwargs)
        if self.draws(x):
            given.draw(functools.partial(self.drawn, training=True))
        if self.begins_with_latents:  # of which nothing is learned for a start
            given.check_without_data()
        else:
            given.check(*self._takes(), finite=not self.skip_nonfinite)
            self._start(given)
        self.initialized.assign(1)
        less_is_better(kwargs.get("callbacks"), {"loss", "nll", "bpd"})
        history = super().fit(**given.for_keras(self.variable_dtype))
        self.check_weights()
        self.adopt_averages()  # Keras has put the averages in place, not their norms.
        return history

    def _start(self, given):
        """Sets data-dependent weights, or checks that those which are set fit the data."""
        if start.awaits_data(self):
            rows = given.sample(self._takes()[0], self.distribute_strategy, self.seed)
            start.begin(self, *rows)
        elif given.array is not None:
            self._check_support(given.array)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        """As in Keras, with averaged weights if the optimizer keeps them; repeatable."""
        given = self._given(super().evaluate, x, y, *args, **kwargs)
        if not given.cached:  # in `fit`, which has looked at it
            if self.draws(x):
                given.draw(functools.partial(self.drawn, training=False))
            if not self.begins_with_latents:
                given.check(*self._takes(), finite=True)
        self.eval_step.assign(0)
        return super().evaluate(**given.for_keras(self.variable_dtype))

    def predict(self, x, *args, **kwargs):
        """As in Keras: `log p(x)`."""
        given = self._given(super().predict, x, *args, **kwargs)
        given.check(*self._takes(), finite=False)
        return super().predict(**given.for_keras(self.variable_dtype))

    def gradient_of_sum(self, x, part):
        if self.divergence is not None:
            return ByTarget(self, x, part)
        return (ByFlow if self.head is None else ByHead)(self, x, part)

    def initialize(self, x, weights=None):
        """Sets data-dependent weights (ActNorm) from data `x [N, ...]`, again if they were set.

        Called once for all replicas, outside of `strategy.run`.

        Args:
          x: all of the data, or many rows of it, in any order.
          weights: `[N]`; rows of weight 0 take no part. Default all 1.
        """
        if hasattr(self.rows_flow, "initialize"):
            self.rows_flow.initialize(self.as_weights(x), *([] if weights is None else [weights]))
        self.initialized.assign(1)
