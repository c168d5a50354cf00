"""Layers from one norm to another, each of which begins where the one before it ended."""

import keras
import tensorflow as tf

from tfresflow.layers.orders import LearnedOrder, Order, check_order

__all__ = ["Chained"]


class Chained:
    """Mixin: a layer from the norm of order `domain` to that of order `codomain`.

    Each is a number or None. Without a `domain`, it is what the layer before ends in, or else the
    codomain; without a `codomain`, it is the domain. `codomain` may also be a `LearnedOrder`, whose
    weight then belongs to this layer.
    """

    def _set_orders(self, domain, codomain):
        self.domain, self.codomain = domain, codomain
        self._domain_order = self._codomain_order = self.raw_codomain = None
        if domain is not None:
            self.domain = check_order("domain", domain)
            self._domain_order = Order(self.domain)
        if isinstance(codomain, LearnedOrder):
            self._codomain_order = Order(learned=self._learned_order, source=self,
                                         lowest=codomain.low)
        elif codomain is not None:
            self.codomain = check_order("codomain", codomain)
            self._codomain_order = Order(self.codomain)

    def _build_orders(self):
        if self.codomain_order.source is self:
            self.raw_codomain = self.add_weight(name="raw_codomain", shape=[], initializer=(
                keras.initializers.Constant(self.codomain.raw)))

    @property
    def codomain_order(self):
        """The `Order` of the norm of y."""
        return self._codomain_order or self._domain_order or Order(2.0)

    @property
    def domain_order(self):
        """The `Order` of the norm of x."""
        return self._domain_order or self.codomain_order

    @property
    def fixed_orders(self):
        """`(p, q)`, numbers; None in place of one that is learned."""
        return self.domain_order.fixed, self.codomain_order.fixed

    def set_domain(self, order):
        """Takes the `Order` that the layer before ends in; returns the own one. Before `build`.

        Raises:
          ValueError: if `domain` was given as another one, or the layer is built for another.
        """
        if self.built and self.domain_order != order:
            raise ValueError("`layers` of a Branch must be given to it together, not built before. "
                             f"Received: {self.name}, built for the domain {self.domain_order}")
        if self.domain is not None and self.domain != order.fixed:
            raise ValueError("`domain` must be the codomain of the layer before (for the first, of "
                             f"the last), here {order}, or the branch is no contraction. "
                             f"Received: domain={self.domain} in {self.name}")
        self._domain_order = order
        return self.codomain_order

    def accepts(self, order):
        """Whether the bound holds for inputs of this `Order`."""
        return order == self.domain_order

    def _learned_order(self):
        if self.raw_codomain is None:  # the next layer is built first
            return tf.constant(self.codomain.initial, self.variable_dtype)
        return self.codomain(tf.convert_to_tensor(self.raw_codomain))
