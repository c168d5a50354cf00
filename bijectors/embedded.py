"""A network of the context, once for all of a conditional flow."""

import keras
import numpy as np
import tensorflow as tf

from bijectors.base import Flow
from bijectors.start import some
from tfresflow.checks.beside import check_codes
from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.beside import OnFirst
from tfresflow.functions.branch import warn_of_states
from tfresflow.functions.steps import Composed, Step

__all__ = ["Embedded"]


@keras.saving.register_keras_serializable("bijectors")
class Embedded(Flow):
    """`flow(x; network(c))`: a conditional flow whose context goes through a network first.

    The network is evaluated once for all blocks, and trained with them. It may be any Keras layer
    or model: an `Embedding` of labels, convolutions that make a map of an image, a recurrent
    network of a series.

    Args:
      flow: a conditional `Flow`.
      network: Keras layer or model, from `[N, *context_shape]` to `[N, *flow.context_shape]`.
      context_shape: shape of one context; `[]` for labels.
      name: of the bijector.

    Raises:
      ValueError: if `flow` takes no context, or the network's output is not of its shape; where
        contexts are at hand (not in a graph), if one is no label of the `Embedding` that it is for.

    Warns:
      UserWarning: if the network holds a layer that has a state, as Dropout: it works as in
        inference.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import Embedded
      >>> from bijectors.flows import toy_flow
      >>> flow = toy_flow(nblocks=1, dims=8, context_shape=4)
      >>> of_labels = Embedded(flow, keras.layers.Embedding(10, 4), [])
      >>> z, log_det = of_labels.forward_and_log_det(tf.ones([3, 2]), context=[0, 1, 9])
      >>> z.shape
      TensorShape([3, 2])
    """

    def __init__(self, flow, network, context_shape, name=None):
        context_shape = () if _is_empty(context_shape) else as_sizes("context_shape", context_shape)
        parameters = dict(locals())
        wanted = getattr(flow, "context_shape", None)
        check(wanted is not None, "flow", "be a conditional flow, one with a `context_shape`", flow)
        check(isinstance(network, keras.layers.Layer), "network", "be a Keras layer or model",
              network)
        found = tuple(network(tf.zeros([1, *context_shape], flow._float)).shape[1:])
        check(found == wanted, "network", f"give [N, {', '.join(map(str, wanted))}], the context "
              "of the flow", found)
        warn_of_states("network", network)
        super().__init__(flow.event_shape, layers=[*flow.layers, network], parameters=parameters,
                         latent_rank=len(flow.latent_shape(flow.event_shape)),
                         context_shape=context_shape, name=name)
        self.flow, self.network = flow, network

    def forward_and_log_det(self, x, seed=None, *, context=None):
        return self.flow.forward_and_log_det(x, seed, context=self._embedded(context))

    def bind(self, seed=None, size=None, dtype=None):
        inner = self.flow.bind(seed, size, dtype).steps
        return Composed([_Embed(self.network), *map(OnFirst, inner), _Forget(self.network)])

    def inverse_and_log_det(self, z, seed=None, *, context=None):
        return self.flow.inverse_and_log_det(z, seed, context=self._embedded(context))

    def inverse_alone(self, z, *, context=None):
        return self.flow.inverse_alone(z, context=self._embedded(context))

    def with_log_det(self, log_det):
        return Embedded(self.flow.with_log_det(log_det), self.network, self.context_shape,
                        self.name)

    def start(self, x, weights, context=None):
        return self._started(self.flow.start, x, weights, context)

    def start_inverse(self, z, weights, context=None):
        return self._started(self.flow.start_inverse, z, weights, context)

    def _started(self, start, x, weights, context):
        # Here, so that the context of what comes after is of the same rows.
        x, weights, context = some(x, weights, context)
        return *start(x, weights, self._embedded(context))[:2], context

    def check_support(self, x):
        self.flow.check_support(x)

    def check_context(self, context):
        """Raises `ValueError` unless contexts are labels, if the network begins with those.

        Keras would take -1 for the last one, and 1.5 for 1.
        """
        own = self.network
        first = own.layers[0] if isinstance(own, keras.Sequential) else own
        if isinstance(first, keras.layers.Embedding):
            check_codes("context", context, first.input_dim, whose=f", the labels of {first.name}")

    def named_layers(self):
        return {**self.flow.named_layers(), self.name: [self.network]}

    def branches(self):
        return self.flow.branches()

    def find_nonfinite(self, x, seed=None, *, context=None):
        return self.flow.find_nonfinite(x, seed, context=self._embedded(context))

    def _embedded(self, context):
        if tf.executing_eagerly():
            self.check_context(context)
        return self.network(context)

    def latent_shape(self, event_shape):
        return self.flow.latent_shape(event_shape)

    def data_shape(self, latent_shape):
        return self.flow.data_shape(latent_shape)


class _Network(Step):
    """A step around the flow within; `weights` are the network's, which are differentiated once.

    On the way back that is at the beginning of the flow, on the way forward (`vijp`) at its end:
    where the derivatives of all blocks with respect to the embedded context are together.
    """

    def __init__(self, network):
        self._network = network
        self._variables = [v.value for v in network.trainable_variables]
        self.weights = [tf.convert_to_tensor(v) for v in self._variables]

    def _pull(self, context, embedded):
        """Derivatives with respect to the context and the weights, of those of its embedding."""
        with tf.GradientTape() as tape:
            tape.watch(context)
            found = self._network(context)
        of_context, *dweights = tape.gradient(found, [context, *self._variables], embedded,
                                              unconnected_gradients="zero")
        return of_context, list(map(tf.convert_to_tensor, dweights))

    def _nothing(self, dlog_det):
        return 0 * dlog_det, list(map(tf.zeros_like, self.weights))


class _Embed(_Network):
    """`(x, c) -> ((x, network(c)), c)`."""

    def value(self, x, rows):
        x, context = x
        return (x, self._network(context)), context

    def linearise(self, x, rows):
        context = x[1]

        def pull(dz, dlog_det):
            (dx, of_embedded), dcontext = dz
            more, dweights = self._pull(context, of_embedded)
            return (dx, dcontext + more), 0 * dlog_det, dweights

        return self.value(x, rows), pull

    def vijp(self, x, rows, dx, dlog_det):
        z = self.value(x, rows)
        dx, dcontext = dx
        return z, ((dx, tf.zeros_like(z[0][1])), dcontext), *self._nothing(dlog_det)

    def inverse(self, z):
        (x, _), context = z
        return x, context


class _Forget(_Network):
    """`((z, network(c)), c) -> (z, c)`."""

    def value(self, x, rows):
        (z, _), context = x
        return z, context

    def linearise(self, x, rows):
        embedded = x[0][1]

        def pull(dz, dlog_det):
            dz, dcontext = dz
            return ((dz, tf.zeros_like(embedded)), dcontext), *self._nothing(dlog_det)

        return self.value(x, rows), pull

    def vijp(self, x, rows, dx, dlog_det):
        (dz, of_embedded), dcontext = dx
        more, dweights = self._pull(x[1], -of_embedded)
        return self.value(x, rows), (dz, dcontext - more), 0 * dlog_det, dweights

    def inverse(self, z):
        z, context = z
        return (z, self._network(context)), context


def _is_empty(shape):
    return np.shape(shape) == (0,)
