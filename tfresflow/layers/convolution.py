"""Convolutions of sequences, images and volumes as pure functions of their kernel."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.layers.linear import Linear

__all__ = ["Convolution", "is_point", "times_matrix", "turned_around"]


@dataclasses.dataclass(frozen=True)
class Convolution(Linear):
    """`[N, *space, channels] -> [N, *space, filters]`, one to three dimensions of space.

    A kernel of one pixel is a matrix product. So is, but for moving pixels about, an odd kernel
    to one, two or three filters, which libraries are slow at in two dimensions: with K the kernel
    as a matrix `[channels, h w filters]` and S the operator that adds what goes to each pixel,
    `W x = S (x K)`. The adjoint of an odd kernel is a convolution, too, by the kernel turned
    around, so that no other way of convolving is needed than the fastest. A sequence is an image
    of one row.

    Args:
      size: the space that the norm holds for; larger inputs are refused.
      any_size: none is too large.
    """

    size: tuple
    any_size: bool

    def __call__(self, weights, x):
        self._check_size(x.shape[1:-1])
        return super().__call__(weights, x)

    def product(self, kernel, x, bias=None):
        """`W x`, or `W x + b`."""
        if is_point(kernel):
            return times_matrix(x, _matrix(kernel), bias)
        if kernel.shape.rank == 3:
            y = tf.squeeze(self.convolve(kernel[tf.newaxis], x[:, tf.newaxis]), 1)
        else:
            y = self.convolve(kernel, x)
        return y if bias is None else tf.nn.bias_add(y, bias)

    def adjoint_map(self, kernel):
        if is_point(kernel):
            matrix = _matrix(kernel)
            return lambda u: times_matrix(u, matrix, transpose=True)
        if kernel.shape.rank == 3:
            adjoint = self.adjoint_of_convolve(kernel[tf.newaxis])
            return lambda u: tf.squeeze(adjoint(u[:, tf.newaxis]), 1)
        return self.adjoint_of_convolve(kernel)

    def convolve(self, kernel, x):
        """`W x` of images or volumes."""
        return _product(kernel, x)

    def adjoint_of_convolve(self, kernel):
        """`u -> W^T u` of images or volumes."""
        return _adjoint_map(kernel)

    def event_shapes(self, kernel):
        """`([*space, channels], [*space, filters])`."""
        return (*self.size, kernel.shape[-2]), (*self.size, kernel.shape[-1])

    def reach(self, kernel):
        """Without what lies beyond the border from every pixel."""
        return kernel[tuple(slice(max(0, (k - 1) // 2 - s + 1), (k - 1) // 2 + s)
                            for k, s in zip(kernel.shape, self.size))]

    def circular_norm(self, kernel):
        """The 2-norm with circular padding, an upper bound: a matrix of channels a frequency.

        The space is larger by the kernel, so that nothing comes around: what zero padding
        computes is a part of it.
        """
        shape = [s + k - 1 for s, k in zip(self.size, kernel.shape)]
        symbols = np.fft.rfftn(kernel, shape, axes=range(len(shape)))
        return float(np.linalg.norm(symbols, 2, axis=(-2, -1)).max())

    def _check_size(self, size):
        if self.any_size:
            return
        if any(s is None or s > built for s, built in zip(size, self.size)):
            raise ValueError("`inputs` must be no larger than what the layer was built for, "
                             f"{self.size}, or its norm is not bounded. "
                             f"Received: {tuple(size)}")


def _product(kernel, x):
    """`W x` of images or volumes."""
    if _is_odd(kernel):
        return _convolve(x, kernel, turned_around(kernel))
    if kernel.shape.rank == 4:
        return tf.nn.conv2d(x, kernel, 1, "SAME")
    return tf.nn.conv3d(x, kernel, [1] * 5, "SAME")


def _adjoint_map(kernel):
    if _is_odd(kernel):
        turned = turned_around(kernel)
        return lambda u: _convolve(u, turned, kernel)
    transposed = tf.nn.conv2d_transpose if kernel.shape.rank == 4 else tf.nn.conv3d_transpose

    def adjoint(u):
        channels = kernel.shape[-2]
        x = transposed(u, kernel, tf.concat([tf.shape(u)[:-1], [channels]], 0), 1, "SAME")
        return tf.ensure_shape(x, [*u.shape[:-1], channels])

    return adjoint


def is_point(kernel):
    """Whether a kernel is a matrix at each pixel."""
    return math.prod(kernel.shape[:-2]) == 1


def _is_odd(kernel):
    return all(k % 2 for k in kernel.shape[:-2])


def turned_around(kernel):
    """The kernel of the adjoint, `[*size, filters, channels]`; with zero padding, of an odd one."""
    rank = kernel.shape.rank
    turned = tf.reverse(kernel, list(range(rank - 2)))
    return tf.transpose(turned, [*range(rank - 2), rank - 1, rank - 2])


def _matrix(kernel):
    """Of a kernel of one pixel."""
    return tf.reshape(kernel, kernel.shape[-2:])


def _convolve(x, kernel, turned):
    """`W x` for an odd kernel; `turned` is that of the adjoint."""
    channels, filters = kernel.shape[-2:]
    if kernel.shape.rank == 5:
        return _direct_3d(x, kernel, turned)
    if filters >= min(4, channels):
        return _direct(x, kernel, turned)
    matrix = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, -1])
    return _add_neighbours(times_matrix(x, matrix), kernel.shape)


@custom_gradient
def _direct(x, kernel, turned):
    y = tf.nn.conv2d(x, kernel, 1, "SAME")

    def backward(dy):
        dy.set_shape(y.shape)  # TensorFlow forgets it where gradients of parts are put together
        dkernel = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=kernel.shape,
                                                  out_backprop=dy, strides=[1] * 4, padding="SAME")
        return _convolve(dy, turned, kernel), dkernel, None  # `turned` is no other variable

    return y, backward


@custom_gradient
def _direct_3d(x, kernel, turned):
    y = tf.nn.conv3d(x, kernel, [1] * 5, "SAME")

    def backward(dy):
        dy.set_shape(y.shape)
        dkernel = tf.raw_ops.Conv3DBackpropFilterV2(
            input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=[1] * 5, padding="SAME")
        return _convolve(dy, turned, kernel), dkernel, None

    return y, backward


def _add_neighbours(q, shape):
    """`S q`: `[N, H, W, h w filters] -> [N, H, W, filters]`, nothing beyond the border."""
    height, width, _, filters = shape
    size = height * width * filters
    one_hot = np.eye(size, dtype=q.dtype.as_numpy_dtype).reshape(height, width, filters, size)
    return tf.nn.conv2d(q, one_hot.swapaxes(2, 3), 1, "SAME")


def times_matrix(x, matrix, bias=None, transpose=False):
    """`x [N, *space, a] matrix [a, b] + bias [b]`; added at once, it is part of the product."""
    flat = tf.matmul(tf.reshape(x, [-1, x.shape[-1]]), matrix, transpose_b=transpose)
    if bias is not None:
        flat = tf.nn.bias_add(flat, bias)
    shape = [*x.shape[1:-1], flat.shape[-1]]
    if None in shape:
        y = tf.reshape(flat, tf.concat([tf.shape(x)[:-1], shape[-1:]], axis=0))
    else:
        y = tf.reshape(flat, [-1, *shape])
    return tf.ensure_shape(y, [x.shape[0], *shape])
