"""The spectral norm of convolutions on a torus, exactly."""

import dataclasses

import tensorflow as tf

from tfresflow.functions.traced import shared
from tfresflow.layers.norms import dual
from tfresflow.layers.spectral_norm import SpectralNorm

__all__ = ["CircularNorm"]


@dataclasses.dataclass(frozen=True)
class CircularNorm(SpectralNorm):
    """`||W||_{2->2} = max_w ||M(w)||`, M(w) the matrix of channels that W is at the frequency w.

    The operator is block-circulant, so this is its norm to rounding, for the size of torus that
    the layer was built for. The singular vectors that are kept are a plane wave, and what W makes
    of it. They are found anew for each kernel, by the eigenvalues of `M(w)^H M(w)`, or of
    `M(w) M(w)^H` if that is smaller: no power iteration, and no tolerance. The gradient goes
    through `sigma = <u, W v>`.

    References: Sedghi, Gupta and Long, The singular values of convolutional layers (2019).
    """

    def measure(self, function, kernel, orders, iterate=None, seed=1):
        return shared(_measure, function)([kernel])

    def maximise(self, function, iterate, state):
        return _maximise(function, state.kernel)

    def update(self, function, iterate, coeff, state):
        return _maximise(function, state.kernel)[:2]

    def search(self, function, state):
        return ()

    refresh = search

    def anew(self, function, state):
        return state.u, state.v


def _measure(function, state):
    return _maximise(function, state[0])[2][0]


def _maximise(function, kernel):
    """`(u, v, sigma)`, `[1, ...]` each: first singular vectors and value."""
    kernel = tf.stop_gradient(kernel)
    symbols, wave = function.symbols(kernel)
    channels, filters = kernel.shape[-2:]
    if channels <= filters:  # y = symbols^T x, of the wave's channels x
        gram = tf.matmul(tf.math.conj(symbols), symbols, transpose_b=True)
    else:
        gram = tf.matmul(symbols, tf.math.conj(symbols), transpose_a=True)
    best = tf.argmax(tf.math.real(tf.linalg.eigvalsh(gram))[:, -1])
    vector = tf.linalg.eigh(gram[best])[1][:, -1]
    # Of any phase; with this one, its real part is not zero.
    largest = vector[tf.argmax(tf.abs(vector))]
    vector *= tf.math.conj(largest) / tf.cast(tf.abs(largest), vector.dtype)
    found = dual(tf.math.real(wave(best)[..., tf.newaxis] * vector)[tf.newaxis], 2)
    v = found if channels <= filters else dual(function.adjoint(kernel, found), 2)
    y = function.product(kernel, v)
    sigma = tf.norm(tf.reshape(y, [1, -1]), axis=1)
    return dual(y, 2), v, sigma
