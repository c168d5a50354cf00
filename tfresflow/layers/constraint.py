"""The constraint that keeps the norm of a linear map at most `coeff`, as a pure function.

    W = kernel / max(1, sigma / coeff)

A `Norm` computes sigma from the state of a layer: a flat list of tensors, `[kernel, *vectors,
*orders]`, to which it gives names. Equal layers share functions of that state, traced once.
"""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow.functions.function import Function, Scale
from tfresflow.functions.traced import is_shareable
from tfresflow.layers.linear import Linear, scale_kernel
from tfresflow.layers.norms import PowerIteration

__all__ = ["Constrained", "Norm", "Vector", "normalize"]


class Vector(typing.NamedTuple):
    """A weight that a layer keeps for its norm, not trained; random to begin with by default."""

    name: str
    shape: tuple
    initializer: typing.Any = keras.initializers.RandomNormal(stddev=1.0, seed=0)


@dataclasses.dataclass(frozen=True)
class Norm:
    """A way to know `||W||_{p->q}` of a layer; each subclass is one.

    A norm holds no tensors, so equal layers have equal norms. The layer keeps the `vectors` that
    its norm asks for. In all methods `function` is a `Linear`, and `state` is a `State`, which is
    what `read` returns.

    Attributes:
      State: a named tuple of the tensors that sigma is computed from: kernel, vectors, orders.
    """

    State: typing.ClassVar[typing.Any]

    @property
    def size(self):
        """Number of tensors of a state."""
        return len(self.State._fields)

    def read(self, tensors):
        """The `State` of a list of tensors."""
        return self.State(*tensors)

    def vectors(self, inputs, outputs):
        """The `Vector`s to keep for an x and a y of these shapes; here none."""
        return []

    def orders(self, domain, codomain, dtype):
        """The `Order`s as tensors `[1]`, for norms that are traced for all orders; else none."""
        return []

    def sigma(self, function, state):
        """The norm of the kernel, a scalar, differentiable with respect to the kernel."""
        raise NotImplementedError(f"{type(self).__name__}.sigma")

    def factor(self, function, coeff, state):
        """`1 / max(1, sigma / coeff)`, by which the kernel is to be multiplied."""
        sigma = self.sigma(function, state)
        # In operations that have short gradients.
        return tf.math.reciprocal(1 + tf.nn.relu((1 / coeff) * sigma - 1))

    def measure(self, function, kernel, orders, iterate=None, seed=1):
        """The norm of any kernel, found without the vectors of a layer.

        Args:
          function, kernel: a `Linear` and its kernel.
          orders: what `orders` returns.
          iterate, seed: a `PowerIteration` and the integer that its random start is drawn from.
        """
        raise NotImplementedError(f"{type(self).__name__}.measure")

    # Norms that keep vectors, u and v among them, also say: -------------------------------------

    def maximise(self, function, iterate, state):
        """`(u, v, sigma)` after power iteration; `iterate`: a `PowerIteration`."""
        raise NotImplementedError(f"{type(self).__name__}.maximise")

    def update(self, function, iterate, coeff, state):
        """Values of all `vectors`, in order, after power iteration; `coeff`: of the constraint."""
        raise NotImplementedError(f"{type(self).__name__}.update")

    def mark(self, state):
        """`[B]`, the `fingerprint` of kernel and orders, of each of B layers that are stacked."""
        raise NotImplementedError(f"{type(self).__name__}.mark")

    def search(self, function, state):
        """`(u, v)` from which power iteration finds the norm of a new kernel; here none."""
        return ()

    def refresh(self, function, state):
        """`search` for a kernel that has taken the place of another one."""
        return self.search(function, state)

    def anew(self, function, state):
        """`(u, v)` from which to begin where the kernels of B stacked layers are other ones."""
        return state.u, self.mixed(state)

    def mixed(self, state):
        """v with a fresh start mixed in: of the maximiser to be found it may have nothing."""
        fresh = tf.random.stateless_normal(tf.shape(state.v), [0, 1], dtype=state.v.dtype)
        known = tf.where(tf.math.is_finite(state.v), state.v, tf.zeros_like(state.v))
        axes = list(range(1, known.shape.rank))
        norm, of_fresh = (tf.sqrt(tf.reduce_sum(v ** 2, axes, keepdims=True))
                          for v in (known, fresh))
        return known + 0.3 * fresh * (norm + 1e-6) / of_fresh

    def thorough(self, num_steps):
        """A `PowerIteration` of as many steps, or fewer where they are enough."""
        return PowerIteration(num_steps)


def normalize(norm, function, coeff, state):
    """The kernel times the `factor` of a norm; state: a list."""
    state = norm.read(state)
    return scale_kernel(state.kernel, norm.factor(function, coeff, state))


@dataclasses.dataclass(frozen=True)
class Constrained(Function):
    """A linear map whose `norm` is at most `coeff`, weights `[*state, *bias]`.

    Only its pieces are ever evaluated: a factor of the kernel can move to its neighbours.
    """

    linear: Linear
    coeff: float
    norm: Norm

    @property
    def shareable(self):
        return is_shareable(self.linear)

    def pieces(self, size):
        return (Scale(), 1), (self.linear, 1 + size - self.norm.size)

    def piece_weights(self, weights):
        state, bias = self.norm.read(weights[:self.norm.size]), weights[self.norm.size:]
        return [[self.norm.factor(self.linear, self.coeff, state)], [state.kernel, *bias]]
