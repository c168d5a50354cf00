"""The spectral norm, by power iteration."""

import dataclasses
import typing

import tensorflow as tf

from tfresflow.functions.traced import shared
from tfresflow.layers.constraint import Norm, Vector
from tfresflow.layers.fingerprint import fingerprint
from tfresflow.layers.norms import krylov

__all__ = ["SpectralNorm"]

_RESTARTS = 9  # of a thorough search: the top of a convolution's spectrum is crowded


class _State(typing.NamedTuple):
    """Of one layer; or stacked, kernels `[B, ...]` and vectors `[B, ...]`, of B of them."""

    kernel: tf.Tensor
    u: tf.Tensor
    v: tf.Tensor


@dataclasses.dataclass(frozen=True)
class SpectralNorm(Norm):
    """`||W||_{2->2} = <u, W v>`, the largest singular value of W, with its singular vectors.

    Every local maximum is the global one, so one pair of vectors is enough. The value is never too
    large, and as close as power iteration has come.

    References: Miyato et al., Spectral normalization for generative adversarial networks (2018).
    """

    State: typing.ClassVar[typing.Any] = _State

    def vectors(self, inputs, outputs):
        return [Vector("u", (1, *outputs)), Vector("v", (1, *inputs))]

    def sigma(self, function, state):
        u, v = map(tf.stop_gradient, (state.u, state.v))
        return tf.reduce_sum(u * function.product(state.kernel, v))

    def measure(self, function, kernel, orders, iterate=None, seed=1):
        inputs, _ = function.event_shapes(kernel)
        v = tf.random.stateless_normal([1, *inputs], [seed, 1], dtype=kernel.dtype)
        u, v = shared(_search, function, _RESTARTS)([kernel, v])
        iterate = iterate or self.thorough(20)
        _, _, sigma = shared(_maximise, function, iterate)([kernel, u, v])
        return tf.reduce_max(sigma)

    def maximise(self, function, iterate, state):
        return _maximise(function, iterate, state)

    def update(self, function, iterate, coeff, state):
        return _maximise(function, iterate, state)[:2]

    def mark(self, state):
        return fingerprint(state.kernel, count=state.v.shape[0])

    def search(self, function, state):
        return shared(_search, function, 0)([state.kernel, state.v])

    def refresh(self, function, state):
        return shared(_search, function, _RESTARTS)([state.kernel, self.mixed(state)])

    def anew(self, function, state):
        return _search(function, 1, [state.kernel, self.mixed(state)])


def _maximise(function, iterate, state):
    """`(u, v, sigma)` after power iteration on `[kernel, u, v]`."""
    kernel, u, v = map(tf.stop_gradient, state)
    return iterate(lambda v: function.product(kernel, v), function.adjoint_map(kernel), u, v)


def _search(function, restarts, state):
    """`(u, v)` near the first singular vectors of `[kernel, v]`, from Krylov spaces."""
    kernel, v = map(tf.stop_gradient, state)
    adjoint = function.adjoint_map(kernel)

    def product(v):
        return function.product(kernel, v)

    u = product(v)
    if u.shape.num_elements() < v.shape.num_elements():
        u = krylov(adjoint, product, u, restarts)
        return u, adjoint(u)
    v = krylov(product, adjoint, v, restarts)
    return product(v), v
