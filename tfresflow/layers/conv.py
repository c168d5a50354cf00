"""Two-dimensional convolution of bounded operator norm."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfresflow.layers.induced_norm import InducedNorm
from tfresflow.layers.linear import Linear

__all__ = ["InducedNormConv2D"]


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormConv2D(InducedNorm, keras.layers.Conv2D):
    """`y = activation(W * x + b)`, the norm of the convolution operator at most `coeff`.

    The norm is that of the operator on images of the size that the layer was built for,
    zero padding included, not that of the kernel reshaped to a matrix (which bounds
    nothing: a 3x3 kernel normalised so had operator norm 1.58). An operator on smaller images
    is a compression of it, so its norm is no larger and smaller images are welcome; larger
    ones are refused. A 1x1 kernel is a matrix at each pixel, good for any size unless the
    codomain's order may be lower than the domain's.

    Mirrors `keras.layers.Conv2D` with stride 1, "same" padding and channels last.

    Args:
      filters: positive integer.
      kernel_size: integer or pair.
      coeff: bound of the operator norm, in (0, 1).
      domain, codomain, power_iteration, certified: see `InducedNormDense`; the norms are those of
        a whole image.
      **kwargs: those of `keras.layers.Conv2D`.

    Raises:
      ValueError: if `coeff` is not in (0, 1), an order is not in [1, inf], or the convolution is
        strided, dilated, grouped or not padded to the same size.
    """

    def __init__(self, filters, kernel_size, coeff=0.98, domain=None, codomain=2,
                 power_iteration=None, certified=True, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        allowed = {"padding": "same", "strides": (1, 1), "dilation_rate": (1, 1), "groups": 1,
                   "data_format": "channels_last"}
        for name, value in allowed.items():
            if getattr(self, name) != value:
                raise ValueError(f"`{name}` must be {value!r}. "
                                 f"Received: {name}={getattr(self, name)!r}")
        self._set_norm(coeff, domain, codomain, power_iteration, certified)

    def build(self, input_shape):
        super().build(input_shape)
        p, q = self.domain_order.fixed, self.codomain_order.fixed
        self._any_size = self.kernel_size == (1, 1) and None not in (p, q) and p <= q
        self._size = (1, 1) if self._any_size else tuple(input_shape[1:3])
        if None in self._size:
            raise ValueError("`input_shape` must say height and width, which the norm of a "
                             f"convolution depends on. Received: input_shape={input_shape}")
        self._build_norm()

    @property
    def function(self):
        return _Convolution(self.activation, self._size, self._any_size)


@dataclasses.dataclass(frozen=True)
class _Convolution(Linear):
    """`[N, H, W, channels] -> [N, H, W, filters]`.

    A 1x1 kernel is a matrix product. So is, but for moving pixels about, an odd kernel to one, two
    or three filters, which libraries are slow at: with K the kernel as a matrix
    `[channels, h w filters]` and S the operator that adds what goes to each pixel,
    `W x = S (x K)`. The adjoint of an odd kernel is a convolution, too, by the kernel turned
    around, so that no other way of convolving is needed than the fastest.

    Args:
      size: the images that the norm holds for; larger ones are refused.
      any_size: none is too large.
    """

    size: tuple
    any_size: bool

    def __call__(self, weights, x):
        self._check_size(x.shape[1:3])
        return super().__call__(weights, x)

    def product(self, kernel, x, bias=None):
        """`W x`, or `W x + b`."""
        height, width = kernel.shape[:2]
        if height == width == 1:
            return _matmul(x, _matrix(kernel), bias)
        if _is_odd(kernel):
            y = _convolve(x, kernel, _turned(kernel))
        else:
            y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return y if bias is None else tf.nn.bias_add(y, bias)

    def adjoint_map(self, kernel):
        if kernel.shape[:2] == (1, 1):
            matrix = _matrix(kernel)
            return lambda u: _matmul(u, matrix, transpose=True)
        if _is_odd(kernel):
            turned = _turned(kernel)
            return lambda u: _convolve(u, turned, kernel)

        def adjoint(u):
            images, channels = tf.shape(u)[:3], kernel.shape[2]
            x = tf.nn.conv2d_transpose(u, kernel, tf.concat([images, [channels]], 0), 1, "SAME")
            return tf.ensure_shape(x, [*u.shape[:3], channels])

        return adjoint

    def event_shapes(self, kernel):
        """`([H, W, channels], [H, W, filters])`."""
        return (*self.size, kernel.shape[2]), (*self.size, kernel.shape[3])

    def reach(self, kernel):
        """Without what lies beyond the border from every pixel."""
        rows, columns = (slice(max(0, (k - 1) // 2 - s + 1), (k - 1) // 2 + s)
                         for k, s in zip(kernel.shape, self.size))
        return kernel[rows, columns]

    def circular_norm(self, kernel):
        """The 2-norm with circular padding, an upper bound: a matrix of channels a frequency.

        The images are larger by the kernel, so that nothing comes around: what zero padding
        computes is a part of it.
        """
        shape = [s + k - 1 for s, k in zip(self.size, kernel.shape)]
        symbols = np.fft.rfft2(kernel, shape, axes=(0, 1))
        return float(np.linalg.norm(symbols, 2, axis=(2, 3)).max())

    def _check_size(self, size):
        if self.any_size:
            return
        if any(s is None or s > built for s, built in zip(size, self.size)):
            raise ValueError("`inputs` must be no larger than the images that the layer was built "
                             f"for, {self.size}, or its norm is not bounded. "
                             f"Received: height and width {tuple(size)}")


def _is_odd(kernel):
    return kernel.shape[0] % 2 == kernel.shape[1] % 2 == 1


def _turned(kernel):
    """The kernel of the adjoint, `[h, w, filters, channels]`, of an odd one."""
    return tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])


def _matrix(kernel):
    """Of a 1 by 1 kernel."""
    return tf.reshape(kernel, kernel.shape[2:])


def _convolve(x, kernel, turned):
    """`W x` for an odd kernel; `turned` is that of the adjoint."""
    channels, filters = kernel.shape[2:]
    if filters >= min(4, channels):
        return _direct(x, kernel, turned)
    matrix = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, -1])
    return _add_neighbours(_matmul(x, matrix), kernel.shape)


@tf.custom_gradient
def _direct(x, kernel, turned):
    def backward(dy):
        dkernel = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape,
                                                  out_backprop=dy, strides=[1] * 4, padding="SAME")
        return _convolve(dy, turned, kernel), dkernel, None  # `turned` is no other variable

    return tf.nn.conv2d(x, kernel, 1, "SAME"), backward


def _add_neighbours(q, shape):
    """`S q`: `[N, H, W, h w filters] -> [N, H, W, filters]`, nothing beyond the border."""
    height, width, _, filters = shape
    size = height * width * filters
    one_hot = np.eye(size, dtype=q.dtype.as_numpy_dtype).reshape(height, width, filters, size)
    return tf.nn.conv2d(q, one_hot.swapaxes(2, 3), 1, "SAME")


def _matmul(x, matrix, bias=None, transpose=False):
    """`x [N, H, W, a] matrix [a, b] + bias [b]`; added at once, it is part of the product."""
    flat = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), matrix, transpose_b=transpose)
    if bias is not None:
        flat = tf.nn.bias_add(flat, bias)
    shape = [*x.shape[1:3], flat.shape[-1]]
    if None in shape:
        y = tf.reshape(flat, tf.concat([tf.shape(x)[:3], shape[2:]], axis=0))
    else:
        y = tf.reshape(flat, [-1, *shape])
    return tf.ensure_shape(y, [x.shape[0], *shape])
