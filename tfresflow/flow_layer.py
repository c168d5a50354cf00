"""A Keras layer that is a flow: for models of one's own."""

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.members import check_base, check_flow, latent_of
from tfresflow.checks.precision import check_float
from tfresflow.checks.rules import check, check_number, is_whole
from tfresflow.losses import StandardNormal
from tfresflow.saving.adopted import adopted
from tfresflow.saving.whole import SavedWhole
from tfresflow.training.given import check_trained

__all__ = ["FlowLayer"]


@keras.saving.register_keras_serializable("tfresflow")
class FlowLayer(SavedWhole, keras.layers.Layer):
    """`x -> (z, log_det)`: a flow as a layer of a Keras model, which trains and saves its weights.

    Keras does not find the weights of a bijector that is an attribute of a model. It finds those of
    a `FlowLayer`, in a `keras.Model` subclass, a functional model or a `keras.Sequential`. Norms
    are brought up to date whenever weights have changed, in `fit` and in any other loop. For a
    complete model, trained by maximum likelihood, take `FlowModel`.

    Args:
      flow: as for `FlowModel`.
      base: distribution of z, which `log_prob` and `sample` use; default standard normal.
      loss_weight: every call adds `loss_weight` times the mean of `-log p(x)`, nats, to the losses
        of the model; None: it adds none.
      seed: integer. The random estimates of log_det differ from step to step in training; outside
        of training they are the same at every call.
      **kwargs: those of `keras.layers.Layer`.

    Raises:
      ValueError: if the dtype is not float32 or float64, or an argument is not what it should be.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors.flows import toy_flow
      >>> from tfresflow import FlowLayer
      >>> flow = toy_flow(nblocks=1, dims=8)
      >>> model = keras.Sequential([keras.layers.Dense(2), FlowLayer(flow, loss_weight=1.0)])
      >>> z, log_det = model(tf.ones([4, 3]))
      >>> z.shape, log_det.shape, len(model.losses)
      (TensorShape([4, 2]), TensorShape([4]), 1)
      >>> len(model.trainable_variables) == 2 + len(flow.trainable_variables)
      True
    """

    def __init__(self, flow, base=None, *, loss_weight=None, seed=0, name=None, **kwargs):
        check_flow(flow)
        if loss_weight is not None:
            check_number("loss_weight", loss_weight, "be a number, or None")
        check(is_whole(seed), "seed", "be a whole number", seed)
        floats = [w.dtype for layer in flow.layers for w in layer.weights if "float" in w.dtype]
        kwargs = {"dtype": floats[0] if floats else None, **kwargs}
        super().__init__(name=name, **kwargs)
        check_float(self)
        self._config = {"flow": flow, "base": base, "loss_weight": loss_weight, "seed": seed,
                        "name": self.name, **kwargs}
        self.flow, self.loss_weight, self.seed = flow, loss_weight, seed
        latent = latent_of(flow, base)
        self.base = StandardNormal(latent, self.variable_dtype) if base is None else base
        check_base(self.base, latent, floats[0] if floats else None)
        self.flow_layers = list(flow.layers)  # Keras sees a list of layers
        self.base_layer = adopted(self.base, self, "base_layer")
        check_trained(self)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.built = True
        for layer in () if self.trainable else self.flow_layers:  # said before they were there
            layer.trainable = False

    def call(self, x, seed=None, training=False, context=None):
        """`(z, log_det)`.

        Args:
          x: `[N, ...]`.
          seed: of the estimate of log_det; None: the layer's own.
          training: whether the layer's own seed changes with each call.
          context: of a conditional flow, `[N, ...]`.

        Returns:
          `[N, ...]`, and `log |det dz/dx|`, `[N]` nats.
        """
        z, log_det = self.flow.forward_and_log_det(x, self._seed(seed, training),
                                                   **self._given(context))
        if self.loss_weight is not None:
            self.add_loss(-self.loss_weight * tf.reduce_mean(self.base.log_prob(z) + log_det))
        return z, log_det

    def log_prob(self, x, seed=None, context=None):
        """`log p(x)`, `[N, ...] -> [N]`, nats, differentiable.

        Args:
          x: `[N, ...]`.
          seed: of the estimate of log_det, as for `seeds.as_seed`; None: the layer's own.
          context: of a conditional flow, `[N, ...]`.

        Example:
          >>> import tensorflow_probability as tfp
          >>> from bijectors import Foreign
          >>> from tfresflow import FlowLayer
          >>> layer = FlowLayer(Foreign(tfp.bijectors.Scale(2.), [1]))
          >>> round(float(layer.log_prob([[0.5]])[0]), 4)         # log N(1; 0, 1) + log 2
          -0.7258
        """
        z, log_det = self.flow.forward_and_log_det(self._cast(x), self._seed(seed),
                                                   **self._given(context))
        return self.base.log_prob(z) + log_det

    def inverse(self, z, context=None):
        """Solves for the x of each z, `[N, ...]`; differentiable. See `call` for the context.

        Raises:
          tf.errors.InvalidArgumentError: if the inverse does not converge.
        """
        return self.flow.inverse_alone(self._cast(z), **self._given(context))

    def sample(self, n, seed=None, context=None):
        """Draws `[n, ...]`, differentiable in the weights.

        Args:
          n: how many.
          seed: as for `seeds.as_seed`; the same integer gives the same samples.
          context: of a conditional flow, `[n, ...]`, or one for all.

        Raises:
          tf.errors.InvalidArgumentError: if the inverse does not converge.
        """
        return self.inverse(self.base.sample(n, seed=seeds.as_seed(seed)), context)

    def initialize(self, x, context=None):
        """Sets data-dependent weights (ActNorm) from `x [N, ...]`, before training."""
        if hasattr(self.flow, "initialize"):
            self.flow.initialize(self._cast(x), **self._given(context))

    def compute_output_shape(self, input_shape):
        """Shapes of `(z, log_det)`."""
        n, *event = input_shape
        return (n, *self.flow.latent_shape(tuple(event))), (n,)

    def compute_output_spec(self, x, *args, **kwargs):
        """`(z, log_det)` as `keras.KerasTensor`s, for functional models."""
        return tuple(keras.KerasTensor(shape, self.compute_dtype)
                     for shape in self.compute_output_shape(x.shape))

    def _given(self, context):
        return {} if context is None else {"context": self._cast(context)}

    def _cast(self, x):
        return tf.cast(tf.convert_to_tensor(x), self.compute_dtype)

    def _seed(self, seed, training=False):
        if seed is not None:
            return seeds.as_seed(seed)
        if not training:
            return seeds.as_seed(self.seed)
        seed = tf.cast(self.seed_generator.next(), tf.int64)
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        return seeds.fold_in(seed, tf.cast(context.replica_id_in_sync_group, tf.int32))
