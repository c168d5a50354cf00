"""Where a context enters a residual branch: at no cost in its Lipschitz constant."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.branch import ContextLayer
from tfresflow.functions.function import Function

__all__ = ["FiLM", "beside", "check_map"]


@keras.saving.register_keras_serializable("tfresflow")
class FiLM(ContextLayer, keras.layers.Layer):
    """`y = tanh(V c + v) x + U c`: feature-wise linear modulation of x by a context c, bounded.

    Put it before an activation of a residual branch, and the branch is one function of x for each
    context. U and V are free: of x, the Lipschitz constant is at most 1 for every context, in
    every norm of order p. Contexts are vectors, which give one number for each channel of x, or
    maps, which give one for each channel in each place.

    Args:
      context_shape: shape of one context: `[K]`; or `[h, w, K]` for images `[H, W, C]`, h and w
        multiples of H and W: the mean of each patch counts, for vectors x that of all places.
      gates: whether x is multiplied, too; the gates start near 1. Without them V is not there.
      kernel_initializer: of U and V; default uniform in `+-1 / sqrt(K)`.
      **kwargs: those of `keras.layers.Layer`.

    Raises:
      ValueError: if `context_shape` is empty; in `build`, if a map does not fit x; when called as a
        Keras layer without a context.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> film = layers.FiLM([2], gates=True)
      >>> x, context = tf.zeros([5, 3]), tf.ones([5, 2])
      >>> film(x, context).shape
      TensorShape([5, 3])

    References: Perez et al., FiLM: visual reasoning with a general conditioning layer (2018).
    """

    lipschitz = 1.0

    def __init__(self, context_shape, gates=False, kernel_initializer=None, **kwargs):
        super().__init__(**kwargs)
        self.context_shape, self.gates = as_sizes("context_shape", context_shape), gates
        self._initializer = keras.initializers.get(kernel_initializer)

    def build(self, inputs_shape, context_shape=None):
        check_map("context_shape", self.context_shape, inputs_shape[1:])
        channels, size = inputs_shape[-1], self.context_shape[-1]
        bound = size ** -0.5
        initializer = self._initializer or keras.initializers.RandomUniform(-bound, bound)
        names = ["shift_kernel", "gate_kernel"] if self.gates else ["shift_kernel"]
        self._kernels = [self.add_weight(name=name, shape=[size, channels], initializer=initializer)
                         for name in names]
        if self.gates:
            self._kernels.append(self.add_weight(
                name="gate_bias", shape=[channels], initializer=keras.initializers.Constant(2.0)))
        self.built = True

    @property
    def function(self):
        return _Modulate(self.gates)

    def effective_weights(self):
        """U, and V and v where there are gates."""
        return [tf.convert_to_tensor(kernel) for kernel in self._kernels]

    def get_config(self):
        initializer = self._initializer and keras.initializers.serialize(self._initializer)
        return {**super().get_config(), "context_shape": self.context_shape, "gates": self.gates,
                "kernel_initializer": initializer}


@dataclasses.dataclass(frozen=True)
class _Modulate(Function):
    """Weights: U, V and v of the gates, and the context `[N, ...]`."""

    gates: bool
    takes_context = True
    is_elementwise = True

    def __call__(self, weights, x):
        return self.linearise(weights, x)[0]

    def linearise(self, weights, x):
        kernel, *of_gates, context = weights
        context = beside(context, x)
        # A difference: as a sum, oneDNN would make one kernel of it and of the layer before, which
        # has a state and must not run twice at a time, as that of a function may.
        shift = tf.tensordot(context, -kernel, 1)
        if not self.gates:
            return x - shift, tf.identity
        gate = tf.tanh(tf.tensordot(context, of_gates[0], 1) + of_gates[1])
        return gate * x - shift, lambda u: gate * u

    linearise_forward = linearise  # a diagonal Jacobian is its own transpose


def check_map(name, context_shape, event_shape):
    """Raises `ValueError` unless contexts are vectors, or maps that fit x of `event_shape`."""
    *places, _ = context_shape
    *space, _ = event_shape
    if places and space and (len(places) != len(space) or any(
            own % side for own, side in zip(places, space))):
        raise ValueError(f"`{name}` must be [K], or [..., K] with sizes that are multiples of "
                         f"those of x. Received: {tuple(context_shape)} for x of shape "
                         f"{tuple(event_shape)}")


def beside(context, x):
    """The context of each example, or of each place, as `[N, ..., K]` with the rank of x."""
    if x.shape.rank == 2:  # of a map, the mean of all places
        return tf.reduce_mean(context, axis=range(1, context.shape.rank - 1))
    if context.shape.rank == 2:
        return tf.reshape(context, [-1, *[1] * (x.shape.rank - 2), context.shape[-1]])
    for axis, side in enumerate(x.shape[1:-1], 1):
        patch = context.shape[axis] // side
        if patch > 1:
            shape = [-1, *context.shape[1:axis], side, patch, *context.shape[axis + 1:]]
            context = tf.reduce_mean(tf.reshape(context, shape), axis=axis + 1)
    return context
