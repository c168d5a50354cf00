"""A bijector of TFP as a flow."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.base import Flow, batch_shape
from bijectors.parts import Parts, leaves
from tfresflow.checks.sizes import as_sizes
from tfresflow.saving.adopted import Adopted

__all__ = ["Foreign", "as_flow"]


def as_flow(bijector, event_shape, name="bijector"):
    """`bijector` itself if it is a flow; one of TFP's own as a flow of `event_shape`.

    Raises:
      ValueError: that names the argument, if it is neither.
    """
    if isinstance(bijector, Flow):
        return bijector
    _check(name, bijector)
    return Foreign(bijector, event_shape)


def _check(name, bijector):
    if not isinstance(bijector, tfp.bijectors.Bijector) or not bijector._is_injective:
        raise ValueError(f"`{name}` must be an injective bijector of TFP, or a flow. "
                         f"Received: {bijector}")


@keras.saving.register_keras_serializable("bijectors")
class Foreign(Flow):
    """Makes a flow of a bijector of TFP, `z = bijector.forward(x)`, whose variables Keras trains.

    `Chain` does this by itself. The log-determinant is `[N]`, one for each example, even where TFP
    gives a single one for all. The constructor evaluates the bijector once, to find its variables,
    those of networks in it among them; networks that are not built yet are built then.

    Args:
      bijector: of `tfp.bijectors`, injective and without a batch shape.
      event_shape: shape of one x.
      name: of the flow; default that of the bijector.

    Raises:
      ValueError: if `bijector` is not an injective bijector of TFP, does not fit `event_shape`, has
        a batch shape, or holds residual blocks (they need a seed, which TFP does not pass on).

    Example:
      >>> import tensorflow as tf
      >>> import tensorflow_probability as tfp
      >>> from bijectors import Foreign
      >>> b = Foreign(tfp.bijectors.Scale(tf.Variable(2.)), [3])
      >>> z, log_det = b.forward_and_log_det(tf.ones([2, 3]))
      >>> [round(float(number), 4) for number in log_det]         # 3 log 2, of each example
      [2.0794, 2.0794]
      >>> len(b.layers[0].trainable_weights)
      1
    """

    def __init__(self, bijector, event_shape, name=None):
        parameters = dict(locals())
        _check("bijector", bijector)
        event_shape = as_sizes("event_shape", event_shape)
        flows = [m for m in bijector.submodules if isinstance(m, Flow)]
        if any(flow.branches() for flow in flows):
            raise ValueError("`bijector` must not hold residual blocks, which no seed would reach: "
                             "give the flow itself as a member; or, around its inverse, take a "
                             f"tfb.Chain in place of ours. Received: {bijector}")
        latent, used = _try(bijector, event_shape)
        layers = [layer for flow in flows for layer in flow.layers]
        known = {id(v.value) for layer in layers for v in layer.weights}
        own = [v for v in _each_once([*bijector.variables, *used]) if id(v) not in known]
        adopted = [Adopted(own, self, "_adopted")] if own else []
        super().__init__(event_shape, layers=[*layers, *adopted], parameters=parameters,
                         latent_rank=len(latent), name=name or bijector.name)
        self.bijector, self._latent = bijector, latent
        self._adopted, = adopted or [None]

    def forward_and_log_det(self, x, seed=None):
        x = self._fresh("x", x)
        z = self.bijector.forward(x)
        log_det = self.bijector.forward_log_det_jacobian(x, event_ndims=len(self.event_shape))
        return (tf.ensure_shape(z, [x.shape[0], *self._latent]),
                log_det + tf.zeros(batch_shape(x), x.dtype))

    def inverse_and_log_det(self, z, seed=None):
        z = self._fresh("z", z)
        x = self.bijector.inverse(z)
        log_det = self.bijector.inverse_log_det_jacobian(z, event_ndims=len(self._latent))
        return (tf.ensure_shape(x, [z.shape[0], *self.event_shape]),
                log_det + tf.zeros(batch_shape(z), z.dtype))

    def inverse_alone(self, z):
        x = self.bijector.inverse(self._fresh("z", z))
        return tf.ensure_shape(x, [z.shape[0], *self.event_shape])

    def latent_shape(self, event_shape):
        return tuple(self.bijector.forward_event_shape(event_shape))

    def data_shape(self, latent_shape):
        return tuple(self.bijector.inverse_event_shape(latent_shape))

    def _fresh(self, name, x):
        """The same tensor as a new one: TFP remembers what it made of one with other weights."""
        if self.bijector.dtype not in (None, x.dtype):
            raise ValueError(f"`{name}` must have the dtype of the parameters of {self.name}, "
                             f"{self.bijector.dtype.name}. Received: {x.dtype.name}")
        return tf.identity(x)

    def __copy__(self):
        make, arguments = super().__reduce_ex__(4)
        return make(*arguments)

    def __reduce_ex__(self, protocol):
        parts, seen = Parts.of(self.bijector), {id(v) for v in self.bijector.variables}
        hidden = [v.name for v in self._layer_variables if id(v) not in seen]
        networks = [n for n in leaves(parts) if isinstance(n, tf.Module) and not isinstance(
            n, (tf.Variable, keras.layers.Layer, Flow))]
        if hidden or networks:
            raise TypeError("`bijector` cannot be copied, as it holds variables in a function or "
                            "a network that cannot: make it anew, and set the weights. "
                            f"Received: {[*networks, *hidden]} in {self.bijector}")
        return _from_parts, (parts, self.event_shape, self.parameters["name"])


def _from_parts(parts, event_shape, name):
    return Foreign(parts.make() if isinstance(parts, Parts) else parts, event_shape, name)


def _try(bijector, event_shape):
    """`(shape of one z, variables)` of a bijector, from one evaluation."""
    floats = [v.dtype for v in bijector.variables if v.dtype.is_floating]
    dtype = bijector.dtype or (floats[0] if floats else keras.config.floatx())
    with tf.GradientTape() as tape:
        # Within the domain of nearly all bijectors; the value does not count.
        x = tf.fill([1, *event_shape], tf.constant(0.5, dtype))
        try:
            z = bijector.forward(x)
            log_det = bijector.forward_log_det_jacobian(x, event_ndims=len(event_shape))
        except tf.errors.InvalidArgumentError:  # not in that of this one, as `validate_args` found
            return tuple(bijector.forward_event_shape(event_shape)), ()
    latent = tuple(z.shape[1:])
    if z.shape[0] != 1 or log_det.shape not in ([], [1]):
        raise ValueError("`bijector` must have one set of parameters for all examples, of shape "
                         f"[N, {', '.join(map(str, event_shape))}]: a batch shape of []. "
                         f"Received: {bijector}")
    container = tf.distribute.get_strategy().extended.value_container
    return latent, [container(v) for v in tape.watched_variables()]


def _each_once(variables):
    return {id(v): v for v in variables}.values()
