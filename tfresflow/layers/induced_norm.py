"""What the norm-constrained dense layers and convolutions share."""

import math
import numbers

import keras
import tensorflow as tf

from tfresflow.functions import upkeep
from tfresflow.functions.branch import FunctionalLayer
from tfresflow.functions.traced import shared
from tfresflow.layers import bounds
from tfresflow.layers.chained import Chained
from tfresflow.layers.constraint import (Constrained, any_changed, batches, follow_vectors,
                                         iterate_vectors, krylov_vectors, log_norm, normalize,
                                         stacked, unstacked, update_vectors)
from tfresflow.layers.linear import check_activation
from tfresflow.layers.norms import PowerIteration, best_distinct, closed_norm

__all__ = ["InducedNorm"]

_STARTS, _TRIAL = 8, 40  # vectors that are kept of many tried for so many steps: local maxima
_EUCLIDEAN = 2.0, 2.0


class InducedNorm(Chained, FunctionalLayer):
    """Mixin: a linear layer `y = W x + b` with `||W||_{domain -> codomain}` at most `coeff`.

        W = kernel / max(1, slack sigma / coeff),   sigma = max_s <u_s, kernel v_s>

    `kernel` is never overwritten; the gradient goes through sigma, `u` and `v` are constants.
    They are the maximisers (singular vectors where both orders are 2), found by a search and power
    iteration when the layer is built and brought up to date once after each change of the kernel,
    by `update_norm` or by whatever uses the layer next (`mark` says for which kernel they were
    made): so forward and inverse see one function. Where the norm has a closed form
    (domain 1 or codomain inf) it is sigma, and `u` and `v` do not exist.

    Other orders have several local maxima, so several vectors are kept, and the largest product
    counts. That is an estimate from below: `slack >= 1` keeps an upper bound (`bounds.py`, as far
    as power iteration for its 2-norm has converged) at most `max(coeff, 0.99)`; `upper_bound`
    proves it. Learned orders follow `order_loss`, not the loss of the data.

    `function` is a `Linear`.
    """

    def _set_norm(self, coeff, domain, codomain, power_iteration, certified):
        if not isinstance(coeff, numbers.Real) or not 0 < coeff < 1:
            raise ValueError(f"`coeff` must be in (0, 1). Received: coeff={coeff}")
        if isinstance(power_iteration, type) or not callable(power_iteration or PowerIteration()):
            raise ValueError("`power_iteration` must be a layers.PowerIteration, as "
                             "PowerIteration(num_steps=5). "
                             f"Received: power_iteration={power_iteration!r}")
        check_activation(self.activation)
        self.coeff, self.certified = float(coeff), certified
        self._set_orders(domain, codomain)
        self.power_iteration = power_iteration or PowerIteration()
        self.vectors: list = []

    # Norms ----------------------------------------------------------------------------------

    def _build_norm(self):
        self._build_orders()
        p, q = fixed = self.fixed_orders
        closed = p == 1 or q == math.inf
        if closed and None in fixed:
            raise ValueError("a learned order may not be next to domain 1 or codomain inf, whose "
                             f"norm is no maximum that moves. Received: {self.domain_order} -> "
                             f"{self.codomain_order} in {self.name}")
        # The orders that are known when a function is traced, or None: they are its arguments.
        self._static = fixed if closed or fixed == _EUCLIDEAN else None
        self._limit = max(self.coeff, 0.99) if self.certified else None
        if closed:
            return
        inputs, outputs = self.function.event_shapes(self.kernel)
        start = keras.initializers.RandomNormal(stddev=1.0, seed=0)
        count = 1 if self._static else _STARTS

        def vector(name, shape, initializer=start):
            return self.add_weight(name=name, shape=shape, initializer=initializer,
                                   trainable=False)

        self.u, self.v = vector("u", [count, *outputs]), vector("v", [count, *inputs])
        self.vectors = [self.u, self.v]
        if not self._static and self.certified:
            self.r, self.slack = vector("r", [1, *inputs]), vector("slack", [1], "ones")
            self.vectors += [self.r, self.slack]
        self.mark = self.add_weight(name="mark", shape=[1], dtype="int64", initializer="zeros",
                                    trainable=False)
        self.vectors.append(self.mark)
        self._search()
        self.update_norm()

    def update_norm(self, iterate=None):
        """Moves `u` and `v` by power iteration on the kernel as it is now.

        Args:
          iterate: a `PowerIteration`; default, the layer's own.
        """
        self.update_norms([self], iterate)

    @staticmethod
    def update_norms(layers, iterate=None):
        """`update_norm(iterate)` of many layers: equal small ones as one operator of many parts.

        A hundred blocks have hundreds of small kernels; one after the other they would take as
        many loops of operations that are too short to be worth starting.
        """
        for variable, value in _new_vectors(update_vectors, layers, iterate):
            variable.assign(value)

    @staticmethod
    def any_changed(layers):
        """Whether weights or orders of one of `layers` have changed since its norm was updated."""
        layers = [layer for layer in layers if layer.vectors]
        if not layers:
            return tf.constant(False)
        states = [[tf.convert_to_tensor(layer.kernel), *layer._orders(layer.kernel.dtype)]
                  for layer in layers]
        return shared(any_changed, tuple(map(len, states)))(
            [tf.stop_gradient(x) for state in states for x in state],
            [tf.convert_to_tensor(layer.mark.value) for layer in layers])

    @staticmethod
    def catch_up(layers):
        """Updates the norms of all `layers` if weights or orders of one have changed since."""
        layers = [layer for layer in layers if layer.vectors]
        if not layers:
            return
        changed = InducedNorm.any_changed(layers)
        if not all(hasattr(layer.mark.value, "assign") for layer in layers):
            # In Keras's `stateless_call`, variables are tensors: what is assigned is handed back.
            pairs = [(v, tf.convert_to_tensor(v.value)) for layer in layers for v in layer.vectors]
            new = tf.cond(changed, lambda: _ordered(layers), lambda: [old for _, old in pairs])
            for (variable, _), value in zip(pairs, new):
                variable.assign(value)
            return

        def follow():
            for variable, value in _new_vectors(follow_vectors, layers):
                variable.value.assign(value)  # not Keras's own: it keeps account while it builds
            return changed

        tf.cond(changed, follow, lambda: changed)

    def refresh_norm(self, num_steps=1000):
        """`update_norm` for weights that were swapped: many steps, with fresh starts mixed in.

        The old singular vector may have next to nothing of the new one: power iteration would
        then stay at a lesser singular value for hundreds of steps, and no tolerance can tell.
        The top of a convolution's spectrum is crowded, too: to come within a thousandth of it
        takes hundreds of steps.
        """
        if self._static == _EUCLIDEAN:
            v = tf.convert_to_tensor(self.v.value)
            fresh = tf.random.stateless_normal(v.shape, [0, 1], dtype=v.dtype)
            self.v.assign(v / tf.norm(v) + 0.1 * fresh / tf.norm(fresh))
        if self.vectors:
            self._search()
        self.update_norm(_thorough(num_steps, self._static))

    def normalized_kernel(self):
        """The kernel that `call` uses, of norm at most `coeff`, differentiable."""
        with upkeep.up_to_date(lambda: [self]):
            state = self._state(self.kernel)
        return shared(normalize, self.function, self.coeff, self._static)(state)

    def measure_norm(self, iterate=None, seed=1):
        """The norm of the operator that `call` applies, measured without `self.u`, `self.v`.

        Args:
          iterate: a `PowerIteration`; default, 1,000 steps from a random start, or until nothing
            changes by a millionth, from many starts, for orders that have several local maxima.
          seed: integer, of the start.

        Returns:
          A scalar tensor: exact in closed form, else an estimate from below, which the
          constraint keeps at or below `coeff`.
        """
        kernel = self.normalized_kernel()
        if not self.vectors:
            return closed_norm(self.function, kernel, *self._static)
        u, v = self._best(kernel, *self._starts(kernel, seed))
        iterate = iterate or _thorough(1000, self._static)
        found = shared(iterate_vectors, self.function, iterate, self._static)(
            [kernel, u, v, *self._orders(kernel.dtype)])
        return tf.reduce_max(found[2])

    def upper_bound(self):
        """A proven bound of the norm of what `call` applies, a float; see `bounds.py`."""
        v = self.v.numpy() if self.vectors else None
        return bounds.upper_bound(self.function, self.normalized_kernel().numpy(),
                                  float(self.domain_order()), float(self.codomain_order()), v)

    def order_loss(self):
        """`log ||W||_{p->q}` of learned orders p, q; None if both are fixed."""
        if None not in self.fixed_orders:
            return None
        return log_norm(self.function, self._state(self.kernel)[:3],
                        self.domain_order(), self.codomain_order())

    @property
    def lipschitz(self):
        """Lipschitz bound from the `domain` norm to the `codomain` norm.

        Exact in closed form; else holds as far as power iteration has converged.
        """
        return self.coeff

    def effective_weights(self):
        """The normalised kernel and the bias: all that `function` needs."""
        return [self.normalized_kernel(), *self._bias()]

    def unprepared(self):
        state = self._state(self.kernel)
        function = Constrained(self.function, self.coeff, self._static, len(state))
        return function, [*state, *self._bias()]

    def save_own_variables(self, store):
        # Keras's own layers would save kernel and bias alone.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        count = len(self._trainable_variables + self._non_trainable_variables)
        if self.vectors and len(store.keys()) == count - 1:
            # Saved before there were marks, which come last: the norms are looked at.
            store = {**store, str(count - 1): [0]}
        keras.layers.Layer.load_own_variables(self, store)

    def get_build_config(self):
        # Keras would build a layer that it loads before the branch has said what comes before it.
        return None

    def get_config(self):
        policy, codomain = map(keras.saving.serialize_keras_object,
                               (self.power_iteration, self.codomain))
        return {**super().get_config(), "coeff": self.coeff, "domain": self.domain,
                "codomain": codomain, "power_iteration": policy, "certified": self.certified}

    @classmethod
    def from_config(cls, config):
        objects = {name: keras.saving.deserialize_keras_object(config[name])
                   for name in ("power_iteration", "codomain")}
        return super().from_config({**config, **objects})

    def _state(self, kernel):
        """What a function of the norm is given: kernel, vectors and, unless static, orders."""
        return [*(tf.convert_to_tensor(x) for x in (kernel, *(v.value for v in self.vectors[:-1]))),
                *self._orders(self.kernel.dtype)]

    def _bias(self):
        return [tf.convert_to_tensor(self.bias)] if self.use_bias else []

    def _orders(self, dtype):
        orders = () if self._static else (self.domain_order(), self.codomain_order())
        return [tf.reshape(tf.stop_gradient(tf.cast(order, dtype)), [1]) for order in orders]

    def _starts(self, kernel, seed):
        """`u` and `v` to begin with: random and, unless both orders are 2, the largest columns."""
        inputs, outputs = self.function.event_shapes(kernel)
        many = 2 ** 22 // max(math.prod(inputs), math.prod(outputs))
        v = tf.random.stateless_normal([1 if self._static else min(max(many, 16), 256), *inputs],
                                       [seed, 1], dtype=kernel.dtype)
        if not self._static:
            order = self.codomain_order()
            v = tf.concat([v, bounds.largest_columns(self.function, kernel, order, 16)], 0)
        return self.function.product(kernel, v), v

    def _search(self):
        """Replaces the kept vectors: by the best of many, or from a Krylov space if one is kept."""
        if self._static:
            u, v = shared(krylov_vectors, self.function)(self._state(self.kernel))
        else:
            kernel, u, v, *_ = self._state(self.kernel)
            more_u, more_v = self._starts(kernel, 0)
            u, v = self._best(kernel, tf.concat([u, more_u], 0), tf.concat([v, more_v], 0))
        self.u.assign(u)
        self.v.assign(v)

    def _best(self, kernel, u, v):
        """The `_STARTS` of `u` and `v` that are largest after some steps, all if one is enough."""
        if self._static:
            return u, v
        u, v, sigma = shared(iterate_vectors, self.function, PowerIteration(_TRIAL), None)(
            [kernel, u, v, *self._orders(v.dtype)])
        chosen = best_distinct(v, sigma, _STARTS)
        return tf.gather(u, chosen), tf.gather(v, chosen)


def _thorough(num_steps, static):
    """Many steps; other orders than 2 converge in fewer, and their tolerance can be trusted."""
    return PowerIteration(num_steps) if static else PowerIteration(rtol=1e-6, max_steps=num_steps)


def _ordered(layers):
    """What `follow_vectors` makes of the vectors of all layers, in their order."""
    new = {id(variable): value for variable, value in _new_vectors(follow_vectors, layers)}
    return [new[id(variable)] for layer in layers for variable in layer.vectors]


def _new_vectors(function, layers, iterate=None):
    """`(variable, value)` of all vectors; function: `update_vectors` or `follow_vectors`."""
    groups = {}
    for layer in layers:
        if layer.vectors:
            equal = (layer.function, iterate or layer.power_iteration, layer._static,
                     layer.coeff, layer._limit, tuple(layer.kernel.shape))
            groups.setdefault(equal, []).append(layer)
    for (*static, shape), equal in groups.items():
        one_by_one = [[layer] for layer in equal]
        for group in batches(equal, shape) if static[0].stackable else one_by_one:
            state = stacked([layer._state(layer.kernel) for layer in group])
            new = shared(function, *static)(state)
            for layer, *own in zip(group, *(unstacked(x, len(group)) for x in new)):
                yield from zip(layer.vectors, own)
