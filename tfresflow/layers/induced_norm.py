"""What the norm-constrained dense layers and convolutions share."""

import contextlib
import contextvars
import math
import numbers

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks.rules import check_kind
from tfresflow.functions import upkeep
from tfresflow.functions.branch import PureLayer
from tfresflow.functions.traced import shared
from tfresflow.layers import bounds, together
from tfresflow.layers.certified_norm import CertifiedNorm
from tfresflow.layers.chained import Chained
from tfresflow.layers.closed_norm import ClosedNorm
from tfresflow.layers.constraint import Constrained, normalize
from tfresflow.layers.estimated_norm import EstimatedNorm
from tfresflow.layers.linear import check_activation
from tfresflow.layers.norms import PowerIteration
from tfresflow.layers.spectral_norm import SpectralNorm

__all__ = ["InducedNorm", "vectors_given"]

_given = contextvars.ContextVar("vectors_given", default=False)


@contextlib.contextmanager
def vectors_given():
    """Within, layers are built without the search of their norms: their vectors are 0.

    For layers whose kernel and vectors are about to be loaded. The search for those of a kernel
    that nobody needs takes minutes in a large model.
    """
    before = _given.set(True)
    try:
        yield
    finally:
        _given.reset(before)


class InducedNorm(Chained, PureLayer):
    """Mixin: a linear layer `y = W x + b` with `||W||_{domain -> codomain}` at most `coeff`.

        W = kernel / max(1, sigma / coeff)

    This holds up to the `rtol` of power iteration where that finds sigma (`SpectralNorm`,
    `EstimatedNorm`). `kernel` is never overwritten; the gradient goes through sigma. `norm` says
    what sigma is and which vectors are kept to compute it. It is chosen for the orders when the
    layer is built:

        ClosedNorm      p = 1 or q = inf: exact, without vectors
        SpectralNorm    p = q = 2: <u, kernel v> of the first singular vectors u, v
        CircularNorm    the same of convolutions on a torus, whose u, v are exact
        EstimatedNorm   other orders: the largest of several such products
        CertifiedNorm   the same, with slack that keeps a proven bound below 1

    When the layer is built, a search and power iteration find the vectors. They are brought up to
    date once after each change of the kernel, by `update_norm` or by whatever uses the layer next
    (`mark` records the kernel that they were made for): so forward and inverse see one function. To
    the gradient they are constants. `upper_bound` proves the bound. Learned orders are trained by
    `order_loss`, not by the loss of the data.

    `function` is a `Linear`.
    """

    def _set_norm(self, coeff, domain, codomain, power_iteration, certified):
        if not isinstance(coeff, numbers.Real) or not 0 < coeff < 1:
            raise ValueError(f"`coeff` must be in (0, 1). Received: coeff={coeff}")
        power_iteration = PowerIteration() if power_iteration is None else power_iteration
        check_kind("power_iteration", power_iteration, "be a layers.PowerIteration, as "
                   "PowerIteration(num_steps=5)", PowerIteration)
        check_activation(self.activation)
        self.coeff, self.certified = float(coeff), certified
        self._set_orders(domain, codomain)
        self.power_iteration = power_iteration
        self.vectors: list = []

    def _build_norm(self):
        self._build_orders()
        self.norm = self._choose_norm()
        shapes = self.function.event_shapes(self.kernel)
        for name, shape, initializer in self.norm.vectors(*shapes):
            given = _given.get() and not isinstance(initializer, str)
            vector = self.add_weight(name=name, shape=shape, trainable=False,
                                     initializer="zeros" if given else initializer)
            setattr(self, name, vector)
            self.vectors.append(vector)
        if not self.vectors:
            return
        self.mark = self.add_weight(name="mark", shape=[1], dtype="int64", initializer="zeros",
                                    trainable=False)
        self.vectors.append(self.mark)
        if _given.get():
            return
        self._restart(self.norm.search)
        self.update_norm()

    def _choose_norm(self):
        p, q = self.fixed_orders
        if p == 1 or q == math.inf:
            if None in (p, q):
                raise ValueError("a learned order may not be next to domain 1 or codomain inf, "
                                 "whose norm in closed form does not train it. Received: "
                                 f"{self.domain_order} -> {self.codomain_order} in {self.name}")
            return ClosedNorm(p, q)
        if p == q == 2:
            return SpectralNorm()
        return CertifiedNorm() if self.certified else EstimatedNorm()

    # Upkeep ---------------------------------------------------------------------------------

    def update_norm(self, iterate=None):
        """Moves the kept vectors by power iteration on the kernel as it is now.

        Args:
          iterate: a `PowerIteration`; default, the layer's own.
        """
        self.update_norms([self], iterate)

    update_norms = staticmethod(together.update_norms)
    any_changed = staticmethod(together.any_changed)
    catch_up = staticmethod(together.catch_up)

    def refresh_norm(self, num_steps=1000):
        """`update_norm` for weights that were swapped: many steps, with fresh starts mixed in.

        The old singular vector may have next to nothing of the new one: power iteration would
        then stay at a lesser singular value for hundreds of steps, and no tolerance can tell.
        The top of a convolution's spectrum is crowded, too: to come within a thousandth of it
        takes hundreds of steps.

        Args:
          num_steps: most steps, a positive integer.
        """
        self._restart(self.norm.refresh)
        self.update_norm(self.norm.thorough(num_steps))

    def set_vectors(self, u, v):
        """Takes first singular vectors that were found elsewhere for the kernel as it is now.

        Nothing is computed: sigma is `<u, kernel v>` until the kernel changes.

        Args:
          u, v: of the shape of one y, and of one x.

        Raises:
          ValueError: if the norm keeps no vectors, as those in closed form.
        """
        if not self.vectors:
            raise ValueError(f"`set_vectors` needs a norm that keeps vectors. Received: {self.norm}"
                             f" in {self.name}")
        for vector, value in (self.u, u), (self.v, v):
            # Norms that keep several count the largest product: of equal ones, this one.
            vector.assign(np.broadcast_to(value, vector.shape))
        self.mark.assign(self.norm.mark(self.norm.read(self.norm_state())))

    def norm_state(self):
        """The tensors that `norm` reads: kernel, vectors, orders."""
        tensors = self.kernel, *(vector.value for vector in self.vectors[:-1])  # not the mark
        return [*map(tf.convert_to_tensor, tensors), *self.norm_orders()]

    def norm_orders(self):
        """Tensors of the orders, if `norm` does not know them by itself."""
        return self.norm.orders(self.domain_order, self.codomain_order, self.kernel.dtype)

    # What the layer computes ----------------------------------------------------------------

    def normalized_kernel(self):
        """The kernel that `call` uses, of norm at most `coeff`, differentiable."""
        with upkeep.up_to_date(lambda: [self]):
            state = self.norm_state()
        return shared(normalize, self.norm, self.function, self.coeff)(state)

    def effective_weights(self):
        """The normalised kernel and the bias: all that `function` needs."""
        return [self.normalized_kernel(), *self._bias()]

    def raw_function(self):
        function = Constrained(self.function, self.coeff, self.norm)
        return function, [*self.norm_state(), *self._bias()]

    # What is known of the norm --------------------------------------------------------------

    def measure_norm(self, iterate=None, seed=1):
        """The norm of the operator that `call` applies, measured without the kept vectors.

        Args:
          iterate: a `PowerIteration`; default, of order 2, 20 steps from where searches in ten
            Krylov spaces of 20 vectors ended; of others, until nothing changes by a millionth, from
            many starts, as there are several local maxima.
          seed: integer, of the start.

        Returns:
          A scalar tensor: exact in closed form, else an estimate from below, which the
          constraint keeps at or below `coeff`, up to the `rtol` of `power_iteration`.
        """
        return self.norm.measure(self.function, self.normalized_kernel(), self.norm_orders(),
                                 iterate, seed)

    def upper_bound(self):
        """A proven bound of the norm of what `call` applies, a float.

        Exact for the orders 1 -> q and p -> inf, and for 2 -> 2 with up to 1,024 inputs or outputs;
        other norms are bounded by these.

        Example:
          >>> import tensorflow as tf
          >>> from tfresflow import layers
          >>> dense = layers.InducedNormDense(4, coeff=0.9, kernel_initializer="ones")
          >>> _ = dense(tf.zeros([1, 3]))
          >>> round(dense.upper_bound(), 2)
          0.9
        """
        v = self.v.numpy() if self.vectors else None
        return bounds.upper_bound(self.function, self.normalized_kernel().numpy(),
                                  float(self.domain_order()), float(self.codomain_order()), v)

    @property
    def lipschitz(self):
        """Lipschitz bound from the `domain` norm to the `codomain` norm.

        Exact in closed form; else holds as far as power iteration has converged.
        """
        return self.coeff

    def order_loss(self):
        """`log ||W||_{p->q}` of learned orders p, q; None if both are fixed."""
        if None not in self.fixed_orders:
            return None
        # Such a norm is an estimated one, certified or not.
        return self.norm.log_norm(self.function, self.norm.read(self.norm_state()),
                                  self.domain_order(), self.codomain_order())

    # Files ----------------------------------------------------------------------------------

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

    def _restart(self, search):
        """Sets u and v to what `norm.search` or `norm.refresh` finds for the kernel."""
        found = search(self.function, self.norm.read(self.norm_state()))
        for vector, value in zip(self.vectors, found):
            vector.assign(value)

    def _bias(self):
        return [tf.convert_to_tensor(self.bias)] if self.use_bias else []
