"""A flow the other way round."""

import keras
import tensorflow as tf

from bijectors.base import Flow, start
from tfresflow.checks.rules import check_kind
from tfresflow.functions.inverse import Inverse
from tfresflow.functions.steps import Composed, Rows

__all__ = ["Inverted"]


@keras.saving.register_keras_serializable("bijectors")
class Inverted(Flow):
    """`z = flow^-1(x)`: the inverse of a flow takes data to latent, and is trained to.

    A residual block cannot be steeper than `1 + Lip(g)`, nor its inverse flatter than the inverse
    of that; a block and an `Inverted` one in turns, an implicit flow, can be both.

    Forward costs what the inverse of the flow costs, for a residual block a fixed point; its
    gradient, by the implicit function theorem, one linear solve, and its memory does not grow with
    the solver's steps. The inverse, and so sampling, costs what forward of the flow does. If a
    solve does not converge, `tf.errors.InvalidArgumentError` is raised.

    Args:
      flow: a `Flow`: a residual block, a chain, ...
      name: of the bijector.

    Raises:
      ValueError: if `flow` is no `Flow`; a bijector of TFP can be made one by `Foreign`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import InvertibleResidual, Inverted
      >>> from tfresflow import layers
      >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
      >>> steep = InvertibleResidual(g, [2])                      # z = 1.5 x
      >>> z, log_det = Inverted(steep).forward_and_log_det([[3., 6.]], seed=0)
      >>> z.numpy().round(3).tolist(), round(float(log_det[0]), 3)          # -2 log 1.5
      ([[2.0, 4.0]], -0.811)

    References: Lu et al., Implicit Normalizing Flows (2021).
    """

    def __init__(self, flow, name=None):
        parameters = dict(locals())
        check_kind("flow", flow, "be a `Flow` of bijectors", Flow)
        super().__init__(flow.latent_shape(flow.event_shape), layers=flow.layers,
                         parameters=parameters, latent_rank=len(flow.event_shape),
                         context_shape=flow.context_shape, name=name or f"inverted_{flow.name}")
        self.flow = flow

    @classmethod
    def of(cls, block):
        """A function that makes inverted blocks, of the arguments that `block` takes.

        Args:
          block: a class of flows, or a function that returns one.

        Example:
          >>> from bijectors import InvertibleResidual, Inverted
          >>> from bijectors.flows import toy_flow
          >>> implicit = [InvertibleResidual, Inverted.of(InvertibleResidual)]
          >>> flow = toy_flow(nblocks=2, dims=8, actnorm=False, block=implicit)
          >>> [b.name for b in reversed(flow.bijectors)]
          ['dense0', 'inverted_dense1']
        """
        return lambda *args, **kwargs: cls(block(*args, **kwargs))

    def forward_and_log_det(self, x, seed=None, **context):
        return self.flow.inverse_and_log_det(x, seed, **context)

    def bind(self, seed=None, size=None, dtype=None):
        steps = self.flow.bind(seed, size, dtype or self._float).steps
        return Composed([Inverse.of(step) for step in reversed(steps)])

    def inverse_and_log_det(self, z, seed=None, **context):
        return self.flow.forward_and_log_det(z, seed, **context)

    def inverse_alone(self, z, *, context=None):
        # Any seed: the value does not depend on it, and the log-determinant is not computed.
        step, rows = self.flow.bind(0, z.shape[0], z.dtype), Rows(tf.range(tf.shape(z)[0]))
        return step.value(z, rows) if context is None else step.value((z, context), rows)[0]

    def with_log_det(self, log_det):
        return Inverted(self.flow.with_log_det(log_det), self.name)

    def start(self, x, weights, context=None):
        return self.flow.start_inverse(x, weights, context)

    def start_inverse(self, z, weights, context=None):
        return start(self.flow, z, weights, context)

    def named_layers(self):
        return _reversed(self.flow.named_layers())

    def branches(self):
        return _reversed(self.flow.branches())

    def latent_shape(self, event_shape):
        return tuple(self.flow.data_shape(event_shape))

    def data_shape(self, latent_shape):
        return tuple(self.flow.latent_shape(latent_shape))


def _reversed(named):
    """In the order in which x meets them."""
    return dict(reversed(named.items()))
