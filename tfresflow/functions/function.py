"""Pure functions of weights, and what can be asked of them: `linearise`, `pieces`, sizes.

They are frozen dataclasses: those that are equal compute the same.
"""

import dataclasses
import functools
import math
import operator

import tensorflow as tf

from tfresflow.functions.traced import is_shareable

__all__ = ["Composition", "Function", "Opaque", "Scale", "product_of"]


class Function:
    """`y = f(weights, x)`, `[N, ...] -> [N, ...]`, and its linearisation.

    Subclasses are frozen dataclasses: those that are equal compute the same. One that does not
    says `shareable = False`.
    """

    def __call__(self, weights, x):
        """The value; `weights` is a list of tensors."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def linearise(self, weights, x):
        """`(y, vjp)` with `vjp(u) = u^T dy/dx`, itself differentiable.

        Here by a tape; subclasses that know their derivative say it, so that whatever does not
        depend on u is computed once for all u.
        """
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            y = self(weights, x)
        return y, lambda u: tape.gradient(y, x, u, unconnected_gradients="zero")

    def linearise_forward(self, weights, x):
        """`(y, jvp)` with `jvp(t) = dy/dx t`, itself differentiable.

        Here as the derivative of the vector-Jacobian product, which is linear: a second derivative,
        which not all operations of TensorFlow have.
        """
        y, vjp = self.linearise(weights, x)

        def jvp(t):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                u = tf.zeros_like(y)
                tape.watch(u)
                product = vjp(u)
            return tape.gradient(product, u, t, unconnected_gradients="zero")

        return y, jvp

    @property
    def has_tangents(self):
        """Whether `linearise_forward` needs no second derivatives."""
        return type(self).linearise_forward is not Function.linearise_forward

    # How many of the last weights are of the examples, `[N, ...]`, one row for each of x.
    num_rows = 0

    # Whether y of a number of x follows from this number alone, and from where it stands.
    is_elementwise = False

    # Whether a factor of x, or of y, can be left to the weights: `scaled`.
    scales_input = scales_output = False

    def scaled(self, weights, before, after):
        """Weights with which self is what `after self(before x)` was; None stands for 1."""
        raise NotImplementedError(f"{type(self).__name__}.scaled")

    def pieces(self, size):
        """`((function, size), ...)`, the first one first, whose composition is `self`.

        Args:
          size: number of its weights.
        """
        return ((self, size),)

    def piece_weights(self, weights):
        """The weights of each of `pieces`, computed from those of `self`."""
        return [weights]

    def largest(self, weights, shape):
        """Entries of the largest tensor on the way from one x of `shape` to its y."""
        return math.prod(self.output_shape(weights, shape))

    def output_shape(self, weights, shape):
        """Shape of one y from that of one x, as tuples."""
        return shape


@dataclasses.dataclass(frozen=True)
class Scale(Function):
    """`factor x`, weights `[factor]`, a scalar."""

    def __call__(self, weights, x):
        return weights[0] * x

    def linearise(self, weights, x):
        return weights[0] * x, lambda u: weights[0] * u

    linearise_forward = linearise
    is_elementwise = scales_input = scales_output = True

    def scaled(self, weights, before, after):
        return [product_of([*weights, before, after])]


@dataclasses.dataclass(frozen=True, eq=False)
class Opaque(Function):
    """Any function; equal to itself alone."""

    call: object
    shareable = False

    def __call__(self, weights, x):
        return self.call(weights, x)


@dataclasses.dataclass(frozen=True)
class Composition(Function):
    """Functions one after the other: `members` are `(function, number of its weights)`."""

    members: tuple

    def normalized(self):
        """The same map, of the weights that `normalize` returns."""
        pieces = self._pieces()
        return Composition(tuple(pieces[i] for i, _, _ in self._plan()))

    def normalize(self, weights):
        """All that does not depend on x: norms, and scalar factors moved into linear maps.

        A factor of a kernel costs next to nothing, one of the activations does.
        """
        pieces = self._pieces()
        owned = [w for f, own in self.each(weights) for w in f.piece_weights(own)]
        normalized = []
        for i, before, after in self._plan():
            own = owned[i]
            if before or after:
                own = pieces[i][0].scaled(own, *(product_of(owned[j][0] for j in places)
                                                 for places in (before, after)))
            normalized += own
        return normalized

    def _pieces(self):
        return [piece for function, size in self.members for piece in function.pieces(size)]

    def _plan(self):
        """`[(i, before, after), ...]`: piece i takes in the scales before and after it."""
        pieces = self._pieces()
        plan = []
        for i, (function, _) in enumerate(pieces):
            last = pieces[plan[-1][0]][0] if plan else self
            if isinstance(function, Scale) and last.scales_output:
                plan[-1][2].append(i)
            elif isinstance(last, Scale) and function.scales_input:
                scale, _, more = plan.pop()
                plan.append((i, [scale, *more], []))
            else:
                plan.append((i, [], []))
        return plan

    @property
    def shareable(self):
        return all(is_shareable(f) for f, _ in self.members)

    def __call__(self, weights, x):
        for function, own in self.each(weights):
            x = function(own, x)
        return x

    def linearise(self, weights, x):
        y, products = self._products("linearise", weights, x)
        return y, lambda u: _through(reversed(products), u)

    def linearise_forward(self, weights, x):
        y, products = self._products("linearise_forward", weights, x)
        return y, lambda t: _through(products, t)

    @property
    def has_tangents(self):
        return all(f.has_tangents for f, _ in self.members)

    def largest(self, weights, shape):
        sizes = []
        for function, own in self.each(weights):
            sizes.append(function.largest(own, shape))
            shape = function.output_shape(own, shape)
        return max(sizes)

    def output_shape(self, weights, shape):
        for function, own in self.each(weights):
            shape = function.output_shape(own, shape)
        return shape

    def _products(self, method, weights, x):
        """`(y, products)`, one of each member, as `method` gives it."""
        products = []
        for function, own in self.each(weights):
            x, product = getattr(function, method)(own, x)
            products.append(product)
        return x, products

    def each(self, weights):
        """`(function, its weights)` of the members."""
        start = 0
        for function, size in self.members:
            yield function, weights[start:start + size]
            start += size

    def gathered(self, dweights):
        """Derivatives with respect to `weights`, of those with respect to what `each` gives."""
        return [d for own in dweights for d in own]


def _through(products, x):
    for product in products:
        x = product(x)
    return x


def product_of(factors):
    """Of those that are not None; None if none is."""
    factors = [f for f in factors if f is not None]
    return functools.reduce(operator.mul, factors) if factors else None
