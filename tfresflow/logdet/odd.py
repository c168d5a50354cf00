"""The log-determinant of a monotone block, `log det(I - J) - log det(I + J)`, from one series.

Only terms of odd order are left of the two power series, and the same vectors `u_k = u_{k-1} J`
serve value and gradient, with the weights c_k of any law for the number of terms:

    value         -2 sum_{k odd} c_k / k <u_k, v>
    Neumann       w = -2 sum_{k even} c_k u_k,   d log det = E[d(w^T J v)], w constant

So an estimate costs what that of a residual block does.

References: Ahn et al., Invertible Monotone Operators for Normalizing Flows (2022).
"""

import dataclasses

from tfresflow.functions.traced import is_shareable
from tfresflow.logdet.difference import Negated, difference
from tfresflow.logdet.terms import Law

__all__ = ["Odd"]


@dataclasses.dataclass(frozen=True)
class Odd(Law):
    """A law for `log det(I - J) - log det(I + J)`, from one for `log det(I + J)`.

    It draws what that one draws.

    Args:
      law: a `Law`.
    """

    law: Law

    @property
    def has_terms(self):
        return self.law.has_terms

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return is_shareable(self.law)

    def draw(self, seed, dtype):
        return self.law.draw(seed, dtype)

    def weights(self):
        return self.law.weights()

    def in_block(self, floor):
        # All singular values of I - J are above it, too, as Lip(-g) = Lip(g).
        return Odd(self.law.in_block(floor))

    def sum(self, jacobian, v, drawn):
        if jacobian.matrix is None:
            return self.law.sum_odd(jacobian, v, drawn)
        return self._twice(self.law.sum, jacobian, v, drawn)  # numbers alone: no products

    def sum_plainly(self, jacobian, v, drawn):
        return self._twice(self.law.sum_plainly, jacobian, v, drawn)

    def bounds(self, jacobian, v, drawn):
        low, high = self.law.bounds(jacobian, v, drawn)
        lower, upper = self.law.bounds(Negated(jacobian), v, drawn)
        return lower - high, upper - low

    def prepare(self, drawn):
        return self.law.prepare(drawn)

    def sum_beside(self, v, product, other, prepared):
        one, w = self.law.sum_beside(v, -product, -other, prepared)
        two, more = self.law.sum_beside(v, product, other, prepared)
        return one - two, -(w + more)

    @staticmethod
    def _twice(sum_, jacobian, v, drawn):
        return difference(sum_(Negated(jacobian), v, drawn), sum_(jacobian, v, drawn))
