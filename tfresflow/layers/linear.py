"""A linear map and an activation, as a pure function of kernel and bias."""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.functions.function import Function, product_of
from tfresflow.functions.traced import is_shareable

__all__ = ["Activation", "CONTRACTIONS", "Linear", "check_activation", "scale_kernel"]

# Those of Keras that act on each number by itself, with a slope in [-1, 1].
CONTRACTIONS = {name: getattr(keras.activations, name) for name in (
    "celu", "elu", "hard_sigmoid", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "relu",
    "relu6", "sigmoid", "soft_shrink", "softplus", "softsign", "sparse_plus", "sparse_sigmoid",
    "squareplus", "tanh", "tanh_shrink")}


@dataclasses.dataclass(frozen=True)
class Activation(Function):
    """One of Keras's functions that act on each number by itself."""

    activation: typing.Any
    is_elementwise = True

    @property
    def shareable(self):
        return is_shareable(self.activation)

    def __call__(self, weights, x):
        return self.activation(x)

    linearise_forward = Function.linearise  # a diagonal Jacobian is its own transpose


@dataclasses.dataclass(frozen=True)
class Linear(Function):
    """`activation(W x + b)`, weights `[kernel]` or `[kernel, bias]`; subclasses say what W is."""

    activation: typing.Any
    stackable = False  # whether `product` and `adjoint` take `[B, ...]` kernels and vectors
    is_circular = False  # whether `circular_norm` is the norm itself

    @property
    def shareable(self):
        return is_shareable(self.activation)

    def __call__(self, weights, x):
        return self.activation(self.product(weights[0], x, *weights[1:]))

    def linearise(self, weights, x):
        if self.activation is not keras.activations.linear:
            return super().linearise(weights, x)
        return self(weights, x), self.adjoint_map(weights[0])

    def linearise_forward(self, weights, x):
        if self.activation is keras.activations.linear:
            return self(weights, x), lambda t: self.product(weights[0], t)
        h = self.product(weights[0], x, *weights[1:])
        y, jvp = Activation(self.activation).linearise_forward([], h)
        return y, lambda t: jvp(self.product(weights[0], t))

    def output_shape(self, weights, shape):
        return (*shape[:-1], weights[0].shape[-1])

    scales_input = True

    @property
    def scales_output(self):
        return self.activation is keras.activations.linear

    def scaled(self, weights, before, after):
        kernel, *bias = weights
        return [scale_kernel(kernel, product_of([before, after])),
                *(b if after is None else after * b for b in bias)]

    def product(self, kernel, x, bias=None):
        """`W x`, or `W x + b`."""
        raise NotImplementedError(f"{type(self).__name__}.product")

    def adjoint_map(self, kernel):
        """`u -> W^T u`, what all u have in common computed once."""
        raise NotImplementedError(f"{type(self).__name__}.adjoint_map")

    def adjoint(self, kernel, u):
        """`W^T u`."""
        return self.adjoint_map(kernel)(u)

    def event_shapes(self, kernel):
        """Shapes of one x and one y that the norm is of: `([..., inputs], [..., outputs])`."""
        raise NotImplementedError(f"{type(self).__name__}.event_shapes")

    def reach(self, kernel):
        """The part of the kernel that counts for them."""
        return kernel


def check_activation(activation):
    """Raises unless `activation` is a function of Keras whose slope is at most 1."""
    if activation not in CONTRACTIONS.values():
        raise ValueError(f"`activation` must be one of {', '.join(CONTRACTIONS)}, whose slope is "
                         "at most 1; others are layers of their own. "
                         f"Received: activation={activation}")


@custom_gradient
def scale_kernel(kernel, factor):
    """`factor kernel`, of a scalar; its gradient in a third of the operations of TensorFlow's."""
    def gradient(d):
        # Transposed, as TensorFlow takes several times as long to multiply a row by a column.
        along = tf.matmul(tf.reshape(d, [1, -1]), tf.reshape(kernel, [1, -1]), transpose_b=True)
        return factor * d, tf.reshape(along, [])

    return factor * kernel, gradient
