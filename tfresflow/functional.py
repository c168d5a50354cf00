"""A residual branch as a pure, hashable function of its weights.

Estimators and solvers call a branch many times and need its derivatives. Both are simple
when the branch is `g(weights, x)` with nothing captured: the weights are read, normalised
and differentiated once, however often g runs. And because equal branches are equal
functions, what is built on one (`shared`) is traced once for all blocks of a shape.
"""

import dataclasses
import functools
import math
import operator

import keras
import tensorflow as tf

__all__ = ["Function", "FunctionalLayer", "Scale", "functional", "is_shareable", "leaf_layers",
           "norm_layers", "product_of", "shared", "update_norms"]


class Function:
    """`y = f(weights, x)`, `[N, ...] -> [N, ...]`, and its linearisation.

    Subclasses are frozen dataclasses: those that are equal compute the same.
    """

    shareable = True

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

        Here as the derivative of the vector-Jacobian product, which is linear.
        """
        y, vjp = self.linearise(weights, x)

        def jvp(t):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                u = tf.zeros_like(y)
                tape.watch(u)
                product = vjp(u)
            return tape.gradient(product, u, t, unconnected_gradients="zero")

        return y, jvp

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


class FunctionalLayer:
    """Mixin of Keras layers that are a `Function` of `effective_weights()`.

    A subclass says `function` (a property) and `effective_weights()`; one that overrides `call`
    instead is treated as any other Keras layer.
    """

    def call(self, inputs):
        return self.function(self.effective_weights(), inputs)

    def unprepared(self):
        """`(function, weights)` of a function whose `pieces` are taken apart in a branch."""
        return self.function, self.effective_weights()


def functional(g):
    """Splits a branch into a pure function and the tensors that it needs.

    A `FunctionalLayer` says both itself. Any other Keras layer goes through its
    `stateless_call`. Inside a `keras.Sequential` each layer is taken by itself.

    Args:
      g: a built Keras layer, or a function of `x` alone that uses no variables.

    Returns:
      `(function, weights)` with `function(weights, x) = g(x)`: a `Function`, and a flat list of
      tensors, differentiable with respect to the layer's variables.

    Raises:
      ValueError: if `g` is a layer that has not been built.
    """
    if not isinstance(g, keras.layers.Layer):
        return _Opaque(lambda weights, x: g(x)), []
    if not g.built:
        raise ValueError(f"`g` must be built before it is used. Received: g={g}")
    if isinstance(g, keras.Sequential):
        parts = [layer.unprepared() if _is_functional(layer) else functional(layer)
                 for layer in g.layers]
        composed = _Composition(tuple((f, len(own)) for f, own in parts))
        weights = [w for _, own in parts for w in own]
        return composed.prepared(), shared(_prepare, composed)(weights)
    if _is_functional(g):
        return g.function, g.effective_weights()
    state = [tf.convert_to_tensor(v.value) for v in g.non_trainable_variables]
    weights = [tf.convert_to_tensor(v.value) for v in g.trainable_variables]
    return _Opaque(lambda weights, x: g.stateless_call(weights, state, x)[0]), weights


def shared(function, *static):
    """`function` with its first arguments bound, traced once for all equal ones.

    In a flow of many equal blocks the outer graph then has one call a block in place of a copy
    of the block: tracing and graph optimisation no longer grow with the depth.

    Args:
      function: of tensors, after the static arguments; of a module, not a closure.
      *static: hashable objects that say what is computed.

    Returns:
      A function of the remaining arguments: tensors, whose shapes follow from that of the first
      one `[N, ...]` (N is traced as unknown once it has changed), and lists of weights.
    """
    if not all(is_shareable(s) for s in static):
        return functools.partial(function, *static)
    return lambda *args: _traced(function, static, _shapes(args))(*args)


def leaf_layers(layers):
    """All layers below `layers` that hold no other layer, in order, each once."""
    leaves = {}
    for layer in layers:
        inner = [sub for sub in layer._flatten_layers(include_self=False)]
        for leaf in inner or [layer]:
            if not list(leaf._flatten_layers(include_self=False)):
                leaves[id(leaf)] = leaf
    return list(leaves.values())


def norm_layers(layers):
    """Those of `leaf_layers(layers)` whose norm has to follow their weights."""
    return [layer for layer in leaf_layers(layers) if hasattr(layer, "update_norms")]


def update_norms(layers):
    """Brings the norms of `norm_layers` up to date, once after each change of their weights."""
    kinds = {}
    for layer in layers:
        kinds.setdefault(type(layer), []).append(layer)
    for kind, own in kinds.items():
        kind.update_norms(own)


@dataclasses.dataclass(frozen=True)
class Scale(Function):
    """`factor x`, weights `[factor]`, a scalar."""

    def __call__(self, weights, x):
        return weights[0] * x

    def linearise(self, weights, x):
        return weights[0] * x, lambda u: weights[0] * u

    linearise_forward = linearise
    scales_input = scales_output = True

    def scaled(self, weights, before, after):
        return [product_of([*weights, before, after])]


@dataclasses.dataclass(frozen=True, eq=False)
class _Opaque(Function):
    """Any function; equal to itself alone."""

    call: object
    shareable = False

    def __call__(self, weights, x):
        return self.call(weights, x)


@dataclasses.dataclass(frozen=True)
class _Composition(Function):
    """Functions one after the other: `members` are `(function, number of its weights)`."""

    members: tuple

    def prepared(self):
        """The same map, of the weights that `prepare` returns."""
        pieces = self._pieces()
        return _Composition(tuple(pieces[i] for i, _, _ in self._plan()))

    def prepare(self, weights):
        """All that does not depend on x: norms, and scalar factors moved into linear maps.

        A factor of a kernel costs next to nothing, one of the activations does.
        """
        pieces = self._pieces()
        owned = [w for f, own in self._each(weights) for w in f.piece_weights(own)]
        prepared = []
        for i, before, after in self._plan():
            own = owned[i]
            if before or after:
                own = pieces[i][0].scaled(own, *(product_of(owned[j][0] for j in places)
                                                 for places in (before, after)))
            prepared += own
        return prepared

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
        return all(f.shareable for f, _ in self.members)

    def __call__(self, weights, x):
        for function, own in self._each(weights):
            x = function(own, x)
        return x

    def linearise(self, weights, x):
        products = []
        for function, own in self._each(weights):
            x, product = function.linearise(own, x)
            products.append(product)

        return x, lambda u: _through(reversed(products), u)

    def linearise_forward(self, weights, x):
        products = []
        for function, own in self._each(weights):
            x, product = function.linearise_forward(own, x)
            products.append(product)

        return x, lambda t: _through(products, t)

    def largest(self, weights, shape):
        sizes = []
        for function, own in self._each(weights):
            sizes.append(function.largest(own, shape))
            shape = function.output_shape(own, shape)
        return max(sizes)

    def output_shape(self, weights, shape):
        for function, own in self._each(weights):
            shape = function.output_shape(own, shape)
        return shape

    def _each(self, weights):
        start = 0
        for function, size in self.members:
            yield function, weights[start:start + size]
            start += size


def _through(products, x):
    for product in products:
        x = product(x)
    return x


def product_of(factors):
    """Of those that are not None; None if none is."""
    factors = [f for f in factors if f is not None]
    return functools.reduce(operator.mul, factors) if factors else None


def _prepare(composition, weights):
    return composition.prepare(weights)


def _is_functional(layer):
    return type(layer).call is FunctionalLayer.call


def is_shareable(static):
    """Whether what is built on `static` may serve all that is equal to it.

    A closure may hold tensors of the graph that it was made in, a layer has variables.
    """
    plain = not (getattr(static, "__closure__", None) or isinstance(static, keras.layers.Layer))
    return plain and getattr(static, "shareable", True)


def _shapes(args):
    """What a trace is for, apart from the batch size."""
    event = () if isinstance(args[0], list) else tuple(args[0].shape[1:])
    weights = [tensor for arg in args if isinstance(arg, list) for tensor in arg]
    return event, tuple(tuple(tensor.shape) for tensor in weights)


@functools.lru_cache(maxsize=1024)
def _traced(function, static, shapes):
    del shapes  # part of the key
    return tf.function(functools.partial(function, *static), autograph=False,
                       reduce_retracing=True, experimental_attributes={"_noinline": True})
