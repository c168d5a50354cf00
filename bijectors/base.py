"""The contract of a flow, and the TFP bijector interface on top of it.

A flow defines two functions and no more:

    forward_and_log_det(x, seed=None) -> (z, log_det)      data -> latent, cheap
    inverse_and_log_det(z, seed=None) -> (x, log_det)      latent -> data, may be solved

`x: [N, ...]`, `log_det: [N]` in nats. The methods that TFP calls (`_forward`, `_inverse`,
`_forward_log_det_jacobian`) are made of these two.
"""

import tensorflow as tf
import tensorflow_probability as tfp

from bijectors.cache import Cache
from bijectors.copies import Copied
from bijectors.entries import take_tensors
from bijectors.start import checked
from bijectors.taking import Taking
from tfresflow.batches import seeds
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions import upkeep
from tfresflow.functions.branch import leaf_layers, norm_layers, update_norms
from tfresflow.functions.steps import Paired, say_together
from tfresflow.training.tracking import warn_unless_seen

__all__ = ["Flow", "batch_shape", "start"]


class Flow(Copied, Taking, tfp.bijectors.Bijector):
    """Base of all bijectors here: weights in Keras layers, one log-determinant for each example.

    A subclass defines `forward_and_log_det` and `inverse_and_log_det`; all else follows. TFP asks
    for `forward(x)` and then for its log-determinant; both come from one evaluation (see
    `cache.py`). TFP's methods take any number of batch dimensions; the subclass sees one, `N`. They
    take `seed=`, too; without one, as in the `log_prob` of a `tfd.TransformedDistribution`, a
    stochastic log-determinant is another at each call.

    x and z may be arrays, tensors, lists or DataFrames of numbers of any dtype: they are converted,
    checked and cast to the dtype of the weights before the methods of a subclass run.

    Args:
      event_shape: shape of one `x`, all known.
      layers: the Keras layers that hold this flow's weights, built, all of one dtype.
      parameters: the constructor's arguments (`dict(locals())`), for `copy` and saving.
      latent_rank: rank of one `z`; by default that of one `x`.
      context_shape: of a conditional flow, the shape of one context; its methods take `context=`.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import Flow
      >>> class Sinh(Flow):
      ...     def forward_and_log_det(self, x, seed=None):
      ...         return tf.sinh(x), tf.reduce_sum(tf.math.log(tf.cosh(x)), axis=1)
      ...     def inverse_and_log_det(self, z, seed=None):
      ...         x = tf.asinh(z)
      ...         return x, -self.forward_and_log_det(x)[1]
      >>> round(float(Sinh([1]).forward_log_det_jacobian([[1.]])[0]), 4)      # log cosh 1
      0.4338
    """

    nbits = None  # of a flow of levels, see `Dequantize`: how many bits each has

    def __init__(self, event_shape, *, layers=(), parameters=None, latent_rank=None,
                 context_shape=None, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        rank = len(event_shape)
        super().__init__(forward_min_event_ndims=rank,
                         inverse_min_event_ndims=rank if latent_rank is None else latent_rank,
                         parameters=parameters, name=name or type(self).__name__.lower())
        self.event_shape, self.context_shape = event_shape, context_shape
        self._layers = list(layers)
        self._float = _one_dtype(self._layers)
        # tf.Module finds variables in attributes, and does not look into Keras layers.
        self._layer_variables = [v.value for layer in self._layers for v in layer.weights]
        self._cache = Cache(self._forward_pair, self._inverse)
        self._given = None

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        take_tensors(cls)
        say_together(cls, "bind", "forward_and_log_det", by=Flow)

    @property
    def layers(self):
        """The Keras layers that hold the weights; a `keras.Model` that lists them trains them."""
        return list(self._layers)

    def forward_and_log_det(self, x, seed=None):
        """Maps data to latent.

        Args:
          x: `[N, ...]`, `...` the event shape.
          seed: an integer or a `[2]` tensor; the same seed gives the same estimate. None: a
            stochastic one is another at each call.
          context: of a conditional flow (by name), `[N, ...]`, or one for all rows.

        Returns:
          `(z, log_det)`: `[N, ...]`, and `log |det dz/dx|`, `[N]` nats.
        """
        raise NotImplementedError(f"{type(self).__name__}.forward_and_log_det")

    def bind(self, seed=None, size=None, dtype=None):
        """Prepares this flow for one training step: applies norms and draws numbers of terms.

        Args:
          seed: as for `forward_and_log_det`, and with the same results.
          size: of the batch, if it is known: random numbers are then drawn for all examples at
            once.
          dtype: of x; default that of the weights.

        Returns:
          A `tfresflow.functions.steps.Step`, which `autodiff.gradients` differentiates. That of a
          conditional flow maps `(x, context)` to `(z, context)`.
        """
        return Paired.of(self, seeds.as_seed(seed))

    def inverse_and_log_det(self, z, seed=None):
        """Maps latent to data.

        Returns:
          `(x, log_det)`: `[N, ...]`, and `log |det dx/dz|`, `[N]` nats.
        """
        raise NotImplementedError(f"{type(self).__name__}.inverse_and_log_det")

    @tf.autograph.experimental.do_not_convert
    def inverse_alone(self, z, **context):
        """`inverse_and_log_det(z)[0]`, which may be cheaper without the log-determinant."""
        return self.inverse_and_log_det(z, **context)[0]

    def inverse_in_chunks(self, z, rows=None, **context):
        """`inverse_alone` of a step, see `Step.solve`: in chunks, where `rows` are given."""
        return self.inverse_alone(z, **context)

    def with_log_det(self, log_det):
        """This flow, the same layers, with another log-determinant estimator in its blocks."""
        del log_det
        return self

    def initialize(self, x, weights=None, **context):
        """Sets data-dependent weights (those of ActNorm) from data.

        Each layer is set from what the layers before it make of the data. Call it once for all
        replicas, outside of `strategy.run`. Data that is not finite is refused before a weight
        changes. A conditional flow takes `context=`, too.

        Args:
          x: `[N, ...]`, in any order; all of the data, or many rows of it. Residual blocks take at
            most 16,384 of them, drawn at random.
          weights: `[N]`, of the rows; default all 1. A row of weight 0 takes no part.

        Returns:
          `forward(x)` of the rows that went through all layers.

        Raises:
          ValueError: if x is empty, not finite, or cannot be normalised.
        """
        x = self._take("x", x)
        return self.start(*checked(x, weights, **self._take_context(x, context)))[0]

    def start(self, x, weights, context=None):
        """One layer's part in `initialize`: `(forward(x), weights, context)`, its own weights set.

        Args:
          x: `[N, ...]`.
          weights: NumPy array `[N]`, or None.
          context: `[N, ...]`, or None; what is returned belongs to as many rows.
        """
        given = {} if self.context_shape is None else {"context": context}
        return self.forward_and_log_det(x, **given)[0], weights, context

    def start_inverse(self, z, weights, context=None):
        """As `start`, of a flow in an `Inverted`: `(inverse(z), weights, context)` of data z."""
        given = {} if self.context_shape is None else {"context": context}
        return self.inverse_alone(z, **given), weights, context

    def check_support(self, x):
        """Raises `ValueError`, which names a row, if the tensor x is not all in the support."""

    def update_norms(self):
        """Continues power iteration in all layers of bounded norm; so does the flow's next use."""
        update_norms(norm_layers(self._layers))

    def _up_to_date(self):
        """A context of norms up to date; warns of a model that does not see the weights."""
        def layers():
            warn_unless_seen(self.name, self._layers)
            return norm_layers(self._layers)

        return upkeep.up_to_date(layers)

    def named_layers(self):
        """`{name: layers}` of every innermost bijector, in the order in which x meets them."""
        return {self.name: self.layers}

    def branches(self):
        """`{name: g}` of every residual block, named as in `named_layers`."""
        return {}

    def lipschitz_layers(self):
        """`{name: [Lipschitz layers]}` of every residual block."""
        return {name: [leaf for leaf in leaf_layers([g]) if hasattr(leaf, "measure_norm")]
                for name, g in self.branches().items()}

    def find_nonfinite(self, x, seed=None, **context):
        """The name of the first innermost bijector whose value for x is not finite, or None."""
        z, log_det = self.forward_and_log_det(x, seed, **context)
        finite = tf.reduce_all(tf.math.is_finite(z)) & tf.reduce_all(tf.math.is_finite(log_det))
        return None if finite else self.name

    def latent_shape(self, event_shape):
        """Shape of one `z` from that of one `x`, as tuples."""
        return tuple(event_shape)

    def data_shape(self, latent_shape):
        """Shape of one `x` from that of one `z`, as tuples."""
        return tuple(latent_shape)

    def _forward(self, x, seed=None):
        return self._forward_pair(x, seed)[0]

    def _inverse(self, z, seed=None):
        return _over_batch(lambda z: [self.inverse_alone(z)], z, self.inverse_min_event_ndims)[0]

    def _forward_log_det_jacobian(self, x, seed=None):
        known = self._cache.take_log_det(x, seed)
        return self._forward_pair(x, seed)[1] if known is None else known

    def _forward_pair(self, x, seed):
        return _over_batch(lambda x: self.forward_and_log_det(x, seed), x,
                           self.forward_min_event_ndims)

    def _forward_event_shape(self, shape):
        return shape if shape.rank is None else tf.TensorShape(self.latent_shape(shape))

    def _inverse_event_shape(self, shape):
        return shape if shape.rank is None else tf.TensorShape(self.data_shape(shape))

    def _forward_event_shape_tensor(self, shape):
        del shape
        return tf.constant(self.latent_shape(self.event_shape), tf.int32)

    def _inverse_event_shape_tensor(self, shape):
        del shape
        return tf.constant(self.event_shape, tf.int32)

    def _get_parameterization(self):
        return id(self)  # by their arguments, TFP takes flows of other weights for equal

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        return {}


def start(bijector, x, weights, context=None):
    """`Flow.start`, or `initialize` of a flow that overrides that alone."""
    if type(bijector).initialize is not Flow.initialize:
        return bijector.initialize(x), weights, context
    return bijector.start(x, weights, context)


def _one_dtype(layers):
    """The floating-point dtype of all weights, None if there are none."""
    found = {tf.as_dtype(w.dtype) for layer in layers for w in layer.weights}
    found = sorted(dtype.name for dtype in found if dtype.is_floating)
    if len(found) > 1:
        raise ValueError("the weights of a flow must be of one dtype. "
                         f"Received: {' and '.join(found)}")
    return found[0] if found else None


def batch_shape(x):
    """`[N]` of `x [N, ...]`: as numbers if N is known, which saves operations."""
    return x.shape[:1] if x.shape[0] is not None else tf.shape(x)[:1]


def _over_batch(function, x, event_ndims):
    """Functions `[N, ...]` of `x [N, ...]`, for any number of leading dimensions."""
    lead = x.shape.rank - event_ndims
    if lead == 1:
        return function(x)
    shape = tf.shape(x)
    return [tf.reshape(y, tf.concat([shape[:lead], tf.shape(y)[1:]], axis=0))
            for y in function(tf.reshape(x, [-1, *x.shape[lead:]]))]
