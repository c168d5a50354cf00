"""Two-dimensional convolution of bounded operator norm."""

import keras
import tensorflow as tf

from tfresflow.layers.induced_norm import InducedNorm

__all__ = ["InducedNormConv2D"]


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormConv2D(InducedNorm, keras.layers.Conv2D):
    """`y = activation(W * x + b)`, the norm of the convolution operator at most `coeff`.

    The norm is that of the operator on images of the size that the layer was built for,
    zero padding included, not that of the kernel reshaped to a matrix (which bounds
    nothing: a 3x3 kernel normalised so had operator norm 1.58). An operator on smaller images
    is a compression of it, so its norm is no larger and smaller images are welcome; larger
    ones are refused. A 1x1 kernel is a matrix at each pixel, good for any size.

    Mirrors `keras.layers.Conv2D` with stride 1, "same" padding and channels last.

    Args:
      filters: positive integer.
      kernel_size: integer or pair.
      coeff: bound of the operator norm, in (0, 1).
      domain, codomain: orders of the norms of input and output; 2.
      power_iteration: how `update_norm` iterates, a `PowerIteration`.
      **kwargs: those of `keras.layers.Conv2D`.

    Raises:
      ValueError: if `coeff` is not in (0, 1), an order is not 2, or the convolution is
        strided, dilated, grouped or not padded to the same size.
    """

    def __init__(self, filters, kernel_size, coeff=0.98, domain=2, codomain=2,
                 power_iteration=None, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        allowed = {"padding": "same", "strides": (1, 1), "dilation_rate": (1, 1), "groups": 1,
                   "data_format": "channels_last"}
        for name, value in allowed.items():
            if getattr(self, name) != value:
                raise ValueError(f"`{name}` must be {value!r}. "
                                 f"Received: {name}={getattr(self, name)!r}")
        self._set_norm(coeff, domain, codomain, power_iteration)

    def build(self, input_shape):
        super().build(input_shape)
        self._size = (1, 1) if self.kernel_size == (1, 1) else tuple(input_shape[1:3])
        if None in self._size:
            raise ValueError("`input_shape` must say height and width, which the norm of a "
                             f"convolution depends on. Received: input_shape={input_shape}")
        self._build_norm([1, *self._size, self.filters], [1, *self._size, input_shape[-1]])

    def operator(self, v, kernel):
        """`[1, H, W, channels] -> [1, H, W, filters]`."""
        return tf.nn.conv2d(v, kernel, 1, "SAME")

    def adjoint(self, u, kernel):
        """`[1, H, W, filters] -> [1, H, W, channels]`."""
        return tf.nn.conv2d_transpose(u, kernel, self.v.shape, 1, "SAME")

    def apply(self, weights, x):
        """The layer's output from the weights of `effective_weights`."""
        self._check_size(x.shape[1:3])
        y = tf.nn.conv2d(x, weights[0], 1, "SAME")
        return self.activation(tf.nn.bias_add(y, weights[1]) if self.use_bias else y)

    def _check_size(self, size):
        if self.kernel_size == (1, 1):
            return
        if any(s is None or s > built for s, built in zip(size, self._size)):
            raise ValueError("`inputs` must be no larger than the images that the layer was built "
                             f"for, {self._size}, or its norm is not bounded. "
                             f"Received: height and width {tuple(size)}")
