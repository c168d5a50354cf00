"""Convolutions on a torus: what leaves at one end comes in at the other."""

import dataclasses

import numpy as np
import tensorflow as tf

from tfresflow.functions.custom_gradient import custom_gradient
from tfresflow.layers.convolution import Convolution, times_matrix, turned_around

__all__ = ["CircularConvolution", "wrapped"]


@dataclasses.dataclass(frozen=True)
class CircularConvolution(Convolution):
    """`[N, *space, channels] -> [N, *space, filters]` with circular padding.

        (W x)(y) = sum_t x(y + t - before) K(t),    before = (k - 1) // 2 for a kernel of k places

    It commutes with shifts around the torus, so plane waves go to plane waves: at each frequency
    W is a matrix of channels, the `symbols`. The adjoint is circular, too, by the kernel turned
    around. Its norm holds for one size alone: another torus has other frequencies.
    """

    is_circular = True

    def convolve(self, kernel, x):
        return _convolve(x, kernel, turned_around(kernel), False)

    def adjoint_of_convolve(self, kernel):
        turned = turned_around(kernel)
        return lambda u: _convolve(u, turned, kernel, True)

    def reach(self, kernel):
        return kernel

    def circular_norm(self, kernel):
        """The 2-norm, exactly."""
        symbols, _ = self.symbols(tf.constant(kernel))
        return float(np.linalg.norm(symbols.numpy(), 2, axis=(-2, -1)).max())

    def symbols(self, kernel):
        """What W is at each frequency: the kernel's Fourier transform.

        Real kernels have the same singular values at w and -w, so half of the frequencies of the
        last axis is enough; and one, where a kernel is of one place along an axis.

        Returns:
          `(symbols, waves)`: `[F, channels, filters]`, complex; and a function of the place of a
          frequency, from 0 to F - 1, that gives its plane wave, `[*space]`.
        """
        dtype = tf.complex128 if kernel.dtype == tf.float64 else tf.complex64
        counts = [1 if k == 1 else s for k, s in zip(kernel.shape, self.size)]
        counts[-1] = counts[-1] // 2 + 1
        symbols = tf.cast(kernel, dtype)
        for axis, (k, s, count) in enumerate(zip(kernel.shape, self.size, counts)):
            steps = np.arange(k) - (k - 1) // 2
            phases = np.exp(2j * np.pi / s * np.outer(np.arange(count), steps))
            # What is summed over goes, and the frequencies come in front: the next axis is next.
            symbols = tf.tensordot(tf.constant(phases, dtype), symbols, [[1], [axis]])
        symbols = tf.reshape(symbols, [-1, *kernel.shape[-2:]])
        frequencies = np.indices(counts[::-1]).reshape(len(counts), -1)[::-1].T / self.size
        places = np.indices(self.size).reshape(len(self.size), -1)

        def wave(which):
            turns = tf.linalg.matvec(tf.constant(places.T, tf.float64), tf.gather(
                tf.constant(frequencies), which))
            angles = tf.cast(2 * np.pi * (turns - tf.floor(turns)), kernel.dtype)
            return tf.reshape(tf.complex(tf.cos(angles), tf.sin(angles)), self.size)

        return symbols, wave

    def _check_size(self, size):
        if not self.any_size and tuple(size) != tuple(self.size):
            raise ValueError("`inputs` must be of the size that the layer was built for, "
                             f"{self.size}: on another torus its norm is another one. "
                             f"Received: {tuple(size)}")


def _convolve(x, kernel, turned, is_adjoint):
    """`W x`, or `W^T x` of the kernel that was turned around; `turned` is that of the adjoint."""
    channels, filters = kernel.shape[-2:]
    if kernel.shape.rank == 5 or filters >= min(4, channels):
        return (_adjoint if is_adjoint else _direct)(x, kernel, turned)
    # A matrix product is faster; then what goes to each place is added there.
    matrix = tf.reshape(tf.transpose(kernel, [2, 0, 1, 3]), [channels, -1])
    padded = wrapped(times_matrix(x, matrix), kernel.shape, is_adjoint)
    height, width, _, filters = kernel.shape
    size = height * width * filters
    one_hot = np.eye(size, dtype=x.dtype.as_numpy_dtype).reshape(height, width, filters, size)
    return tf.nn.conv2d(padded, one_hot.swapaxes(2, 3), 1, "VALID")


@custom_gradient
def _direct(x, kernel, turned):
    return _with_gradient(x, kernel, turned, False)


@custom_gradient
def _adjoint(x, kernel, turned):
    return _with_gradient(x, kernel, turned, True)


def _with_gradient(x, kernel, turned, is_adjoint):
    padded = wrapped(x, kernel.shape, is_adjoint)
    if kernel.shape.rank == 5:
        y = tf.nn.conv3d(padded, kernel, [1] * 5, "VALID")
    else:
        y = tf.nn.conv2d(padded, kernel, 1, "VALID")

    def backward(dy):
        dy.set_shape(y.shape)  # TensorFlow forgets it where gradients of parts are put together
        if kernel.shape.rank == 5:
            dkernel = tf.raw_ops.Conv3DBackpropFilterV2(
                input=padded, filter_sizes=kernel.shape, out_backprop=dy, strides=[1] * 5,
                padding="VALID")
        else:
            dkernel = tf.raw_ops.Conv2DBackpropFilter(
                input=padded, filter_sizes=kernel.shape, out_backprop=dy, strides=[1] * 4,
                padding="VALID")
        return _convolve(dy, turned, kernel, not is_adjoint), dkernel, None

    return y, backward


def wrapped(x, kernel_shape, is_adjoint=False):
    """x with its ends before and after it, along each axis of space, as a kernel reaches."""
    for axis, k in enumerate(kernel_shape[:-2], 1):
        first, last = (k - 1) // 2, k // 2
        before, after = (last, first) if is_adjoint else (first, last)
        count = x.shape[axis]
        ends = [_taken(x, axis, count - before, count)] if before else []
        ends += [x] + ([_taken(x, axis, 0, after)] if after else [])
        x = tf.concat(ends, axis) if len(ends) > 1 else x
    return x


def _taken(x, axis, start, stop):
    return x[(slice(None),) * axis + (slice(start, stop),)]
