"""A Keras model of a density: any flow, any base distribution."""

import contextlib

import keras
import tensorflow as tf

from tfresflow import seeds
from tfresflow.configurable import deserialize, serialize
from tfresflow.functional import leaf_layers
from tfresflow.losses import StandardNormal, bits_per_dim

__all__ = ["FlowModel"]


@keras.saving.register_keras_serializable("tfresflow")
class FlowModel(keras.Model):
    """`log p(x) = log p_base(f(x)) + log |det df/dx|`, trained by maximum likelihood.

    `compile(optimizer)`, `fit(dataset of x)`, `evaluate`, and `predict`, which gives `log p(x)`.
    The loss is the mean negative log-likelihood in nats: an unbiased estimate wherever the flow's
    log-determinant is one, in training too.

    Power iteration follows each training step. With `use_ema=True` in the
    optimizer, `evaluate` (so also validation in `fit`) uses the averaged weights, and `fit` ends
    with them in place, as in Keras.

    Args:
      flow: has `forward_and_log_det(x, seed) -> (z, log_det [N])`, `inverse_alone(z)` and
        `layers`; data-dependent weights if it has `initialize(x)`.
      base: distribution of z with `log_prob(z) -> [N]` and `sample(n, seed=)`; default standard
        normal.
      nbits: for images quantised to `2^nbits` levels and scaled to [0, 1): report bits/dim
        beside nats.
      eval_log_det: estimator of the log-determinant outside training; default the flow's own.
      seed: integer; all randomness of training and evaluation follows from it.
      name: of the model.

    Example:

    ```python
    model = FlowModel(image_flow([28, 28, 1], nblocks=(4, 4, 4), idim=48), nbits=8)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1., use_ema=True))
    model.fit(images, epochs=10)
    x = model.sample(64)
    ```
    """

    def __init__(self, flow, base=None, *, nbits=None, eval_log_det=None, seed=0, name=None,
                 **kwargs):
        super().__init__(name=name, **kwargs)
        self.supports_jit = False  # so "auto" leaves XLA off: on CPU its convolutions are slower
        if nbits is not None and not 1 <= nbits <= 16:
            raise ValueError(f"`nbits` must be in 1..16, or None. Received: nbits={nbits}")
        self.flow = flow
        self.base = base or StandardNormal(flow.latent_shape(flow.event_shape))
        self._config = {"flow": flow, "base": base, "nbits": nbits, "eval_log_det": eval_log_det,
                        "seed": seed, "name": self.name}
        self.nbits = nbits
        self.seed = seed
        self.eval_flow = flow.with_log_det(eval_log_det) if eval_log_det is not None else flow
        # Keras does not look into bijectors: a list of layers it sees, trains and saves.
        self.flow_layers = list(flow.layers)
        self.norm_layers = [layer for layer in leaf_layers(self.flow_layers)
                            if hasattr(layer, "update_norms")]
        self.initialized = self.add_weight(name="initialized", shape=[], initializer="zeros",
                                           dtype="int32", trainable=False)
        self.eval_step = self.add_weight(name="eval_step", shape=[], initializer="zeros",
                                         dtype="int32", trainable=False)
        # "loss" is what Keras's callbacks watch unless told otherwise.
        self.loss_metric = keras.metrics.Mean(name="loss")
        self.nll_metric = keras.metrics.Mean(name="nll")
        self.bpd_metric = keras.metrics.Mean(name="bpd")
        self._averaged = False
        self.built = True

    # Densities ------------------------------------------------------------------------------

    def compute_nll(self, x, seed, flow=None):
        """`-log p(x)`, `[N, ...] -> [N]`, nats; `flow` defaults to the one that is trained."""
        z, log_det = (flow or self.flow).forward_and_log_det(x, seed)
        return -self.base.log_prob(z) - log_det

    def log_prob(self, x, seed=None):
        """`log p(x)`, `[N, ...] -> [N]`, nats, estimated as `eval_log_det` says."""
        return -self.compute_nll(tf.convert_to_tensor(x), seeds.as_seed(seed), self.eval_flow)

    def bits_per_dim(self, x, seed=None):
        """Bits per dimension, `[N, ...] -> [N]`; needs `nbits`."""
        if self.nbits is None:
            raise ValueError("`nbits` must be given to FlowModel for bits per dimension. "
                             "Received: nbits=None")
        return bits_per_dim(-self.log_prob(x, seed), self._num_dims(x), self.nbits)

    def sample(self, n, seed=None, temperature=1.0):
        """Draws `[n, ...]` samples; `temperature` scales the latent's standard deviation.

        Raises:
          tf.errors.InvalidArgumentError: if the inverse does not converge.
        """
        if temperature < 0:
            raise ValueError("`temperature` must not be negative. "
                             f"Received: temperature={temperature}")
        return self.flow.inverse_alone(temperature * self.base.sample(n, seed=seeds.as_seed(seed)))

    def call(self, x):
        """`log p(x)`, `[N]`, with the model's own seed: the same at every call."""
        return self.log_prob(x, seed=self.seed)

    # Training -------------------------------------------------------------------------------

    def fit(self, x=None, *args, **kwargs):
        """As in Keras; sets data-dependent weights from the first batch if that is not done."""
        if not int(self.initialized.numpy()):
            self.initialize(_first_batch(x, kwargs.get("batch_size") or 32))
        history = super().fit(x, *args, **kwargs)
        if self.optimizer.use_ema:
            self.refresh_norms()  # Keras has put the averaged weights in place.
        return history

    def evaluate(self, *args, **kwargs):
        """As in Keras, with averaged weights if the optimizer keeps them; repeatable."""
        self.eval_step.assign(0)
        with self.averaged_weights():
            return super().evaluate(*args, **kwargs)

    def initialize(self, x):
        """Sets data-dependent weights (ActNorm) from a batch `x [N, ...]`."""
        if hasattr(self.flow, "initialize"):
            self.flow.initialize(tf.convert_to_tensor(x))
        self.initialized.assign(1)

    def make_train_function(self, force=False):
        """As in Keras; with the optimizer's variables made before, the first trace is the last."""
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    @tf.autograph.experimental.do_not_convert
    def train_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        seed = self._fold_replica(seeds.fold_in(seeds.as_seed(self.seed),
                                                tf.cast(self.optimizer.iterations.value, tf.int32)))
        with tf.GradientTape() as tape:
            nll = self.compute_nll(x, seed)
            loss = tf.reduce_mean(nll) / tf.distribute.get_strategy().num_replicas_in_sync
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in variables])
        self.optimizer.apply_gradients(zip(gradients, variables))
        for kind, layers in _by_type(self.norm_layers).items():
            kind.update_norms(layers)
        return self._update_metrics(x, nll)

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data):
        x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        # Another stream than training's, whose steps are not negative.
        step = -1 - tf.convert_to_tensor(self.eval_step.value)
        seed = self._fold_replica(seeds.fold_in(seeds.as_seed(self.seed), step))
        self.eval_step.assign_add(1)
        return self._update_metrics(x, self.compute_nll(x, seed, self.eval_flow))

    @property
    def metrics(self):
        bpd = [self.bpd_metric] if self.nbits is not None else []
        return [self.loss_metric, self.nll_metric, *bpd]

    # Weights --------------------------------------------------------------------------------

    def refresh_norms(self, num_steps=1000):
        """Brings the norm of every layer up to date: after weights were swapped or loaded."""
        for layer in self.norm_layers:
            layer.refresh_norm(num_steps)

    @contextlib.contextmanager
    def averaged_weights(self, num_steps=200):
        """The optimizer's moving average in place of the weights, norms refreshed, for a while.

        Does nothing if the optimizer keeps no average or has not yet made a step.

        Args:
          num_steps: of the power iteration that follows the swap.
        """
        if self._averaged or not self._has_average():
            yield
            return
        pairs = list(zip(self.optimizer._trainable_variables,
                         self.optimizer._model_variables_moving_average))
        norms = [w for layer in self.norm_layers for w in (layer.u, layer.v)]
        kept = [(v, v.numpy()) for v in [v for v, _ in pairs] + norms]
        self._averaged = True
        try:
            for variable, average in pairs:
                variable.assign(average)
            self.refresh_norms(num_steps)
            yield
        finally:
            for variable, value in kept:
                variable.assign(value)
            self._averaged = False

    def get_config(self):
        return serialize(self._config)

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize(config))

    # Private --------------------------------------------------------------------------------

    def _has_average(self):
        optimizer = getattr(self, "optimizer", None)
        return (optimizer is not None and optimizer.use_ema and optimizer.built
                and int(optimizer.iterations.numpy()) > 0)

    def _update_metrics(self, x, nll):
        self.loss_metric.update_state(nll)
        self.nll_metric.update_state(nll)
        if self.nbits is not None:
            self.bpd_metric.update_state(bits_per_dim(nll, self._num_dims(x), self.nbits))
        return {m.name: m.result() for m in self.metrics}

    def _num_dims(self, x):
        return tf.TensorShape(x.shape[1:]).num_elements()

    def _fold_replica(self, seed):
        context = tf.distribute.get_replica_context()
        return seeds.fold_in(seed, context.replica_id_in_sync_group if context else 0)


def _by_type(layers):
    """`{type: [layers]}`."""
    groups = {}
    for layer in layers:
        groups.setdefault(type(layer), []).append(layer)
    return groups


def _first_batch(x, batch_size):
    """One batch of whatever `fit` was given."""
    if isinstance(x, (tf.Tensor, keras.KerasTensor)) or hasattr(x, "__array__"):
        return x[:batch_size]
    batch = next(iter(x))
    return keras.utils.unpack_x_y_sample_weight(batch)[0]
