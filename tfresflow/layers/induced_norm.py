"""What the norm-constrained Dense and Conv2D layers share."""

import dataclasses
import math
import typing

import keras
import tensorflow as tf

from tfresflow.functional import Function, FunctionalLayer, is_shareable, shared
from tfresflow.layers.norms import PowerIteration

__all__ = ["InducedNorm", "Linear"]


@dataclasses.dataclass(frozen=True)
class Linear(Function):
    """`activation(W x + b)`, weights `[kernel]` or `[kernel, bias]`; subclasses say what W is."""

    activation: typing.Any
    stackable = False  # whether `product` and `adjoint` take `[B, ...]` kernels and vectors

    @property
    def shareable(self):
        return is_shareable(self.activation)

    def __call__(self, weights, x):
        return self.activation(self.product(weights[0], x, *weights[1:]))

    def linearise(self, weights, x):
        if self.activation is not keras.activations.linear:
            return super().linearise(weights, x)
        return self(weights, x), lambda u: self.adjoint(weights[0], u)

    def output_shape(self, weights, shape):
        return (*shape[:-1], weights[0].shape[-1])

    def scaled(self, weights, before, after):
        if self.activation is not keras.activations.linear:
            return None
        kernel, *bias = weights
        return [before * after * kernel, *(after * b for b in bias)]

    def product(self, kernel, x, bias=None):
        """`W x`, or `W x + b`."""
        raise NotImplementedError(f"{type(self).__name__}.product")

    def adjoint(self, kernel, u):
        """`W^T u`."""
        raise NotImplementedError(f"{type(self).__name__}.adjoint")


class InducedNorm(FunctionalLayer):
    """Mixin: a linear layer `y = W x + b` whose operator norm is at most `coeff`.

        W = kernel / max(1, sigma / coeff),   sigma = <u, kernel v>

    `kernel` is never overwritten; the gradient goes through sigma, `u` and `v` are constants.
    They are singular vectors of the operator, found by power iteration when the layer is
    built and brought up to date by `update_norm`, once a training step, never in `call`: so
    forward and inverse see one function.

    The layer's `function` is a `Linear`.
    """

    def _set_norm(self, coeff, domain, codomain, power_iteration):
        if not 0 < coeff < 1:
            raise ValueError(f"`coeff` must be in (0, 1). Received: coeff={coeff}")
        for name, order in (("domain", domain), ("codomain", codomain)):
            if order != 2:
                raise ValueError(f"`{name}` must be 2 (other norms are not available yet). "
                                 f"Received: {name}={order}")
        self.coeff, self.domain, self.codomain = coeff, domain, codomain
        self.power_iteration = power_iteration or PowerIteration()

    def _build_norm(self, u_shape, v_shape):
        start = keras.initializers.RandomNormal(stddev=1.0, seed=0)
        self.u = self.add_weight(name="u", shape=u_shape, initializer=start, trainable=False)
        self.v = self.add_weight(name="v", shape=v_shape, initializer=start, trainable=False)
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
        groups = {}
        for layer in layers:
            equal = layer.function, iterate or layer.power_iteration, tuple(layer.kernel.shape)
            groups.setdefault(equal, []).append(layer)
        for (function, policy, shape), equal in groups.items():
            # As many as stay in a processor's cache.
            count = max(1, 2 ** 18 // math.prod(shape)) if function.stackable else 1
            for group in (equal[i:i + count] for i in range(0, len(equal), count)):
                kernels, us, vs = zip(*(layer._norm_state(layer.kernel) for layer in group))
                kernel = tf.stack(kernels) if len(group) > 1 else kernels[0]
                u, v, _ = shared(_iterate, function, policy)(
                    [kernel, tf.concat(us, 0), tf.concat(vs, 0)])
                parts = tf.split(u, len(group)), tf.split(v, len(group))
                for layer, own_u, own_v in zip(group, *parts):
                    layer.u.assign(own_u)
                    layer.v.assign(own_v)

    def refresh_norm(self, num_steps=1000):
        """`update_norm` for weights that were swapped: many steps, with a fresh start mixed in.

        The old singular vector may have next to nothing of the new one: power iteration would
        then stay at a lesser singular value for hundreds of steps, and no tolerance can tell.
        The top of a convolution's spectrum is crowded, too: to come within a thousandth of it
        takes hundreds of steps.
        """
        v = tf.convert_to_tensor(self.v.value)
        fresh = tf.random.stateless_normal(v.shape, [0, 1], dtype=v.dtype)
        self.v.assign(v / tf.norm(v) + 0.1 * fresh / tf.norm(fresh))
        self.update_norm(PowerIteration(num_steps))

    def normalized_kernel(self):
        """The kernel that `call` uses, of norm at most `coeff`, differentiable."""
        return shared(_normalize, self.function, self.coeff)(self._norm_state(self.kernel))

    def measure_norm(self, iterate=PowerIteration(num_steps=1000), seed=0):
        """The norm of the operator that `call` applies, measured without `self.u`, `self.v`.

        Args:
          iterate: how long; by default 1,000 steps from a random start.
          seed: integer, of the start.

        Returns:
          A scalar tensor: an estimate from below, which the constraint keeps at or below
          `coeff`.
        """
        kernel = self.normalized_kernel()
        u = tf.random.stateless_normal(self.u.shape, [seed, 0], dtype=kernel.dtype)
        v = tf.random.stateless_normal(self.v.shape, [seed, 1], dtype=kernel.dtype)
        return shared(_iterate, self.function, iterate)([kernel, u, v])[2][0]

    @property
    def lipschitz(self):
        """Lipschitz bound from the `domain` norm to the `codomain` norm (2 to 2).

        Holds as far as power iteration has converged: an estimate, exact in the limit.
        """
        return self.coeff

    def effective_weights(self):
        """The normalised kernel and the bias: all that `function` needs."""
        kernel = self.normalized_kernel()
        return [kernel, tf.convert_to_tensor(self.bias)] if self.use_bias else [kernel]

    def save_own_variables(self, store):
        # Keras's Dense and Conv2D would save kernel and bias alone.
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self):
        policy = keras.saving.serialize_keras_object(self.power_iteration)
        return {**super().get_config(), "coeff": self.coeff, "domain": self.domain,
                "codomain": self.codomain, "power_iteration": policy}

    @classmethod
    def from_config(cls, config):
        policy = keras.saving.deserialize_keras_object(config["power_iteration"])
        return super().from_config({**config, "power_iteration": policy})

    def _norm_state(self, kernel):
        return [tf.convert_to_tensor(x) for x in (kernel, self.u.value, self.v.value)]


def _iterate(function, iterate, state):
    """Power iteration on `[kernel, u, v]`; `(u, v, sigma)`."""
    kernel, u, v = map(tf.stop_gradient, state)
    return iterate(lambda v: function.product(kernel, v), lambda u: function.adjoint(kernel, u),
                   u, v)


def _normalize(function, coeff, state):
    """`kernel / max(1, sigma / coeff)` from `[kernel, u, v]`."""
    kernel, u, v = state
    u, v = tf.stop_gradient(u), tf.stop_gradient(v)
    sigma = tf.reduce_sum(u * function.product(kernel, v))
    return kernel / tf.maximum(tf.ones_like(sigma), sigma / coeff)
