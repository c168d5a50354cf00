"""`log det(I - J) - log det(I + J)`, from two sums for `log det(I + J)`: of -J and of J.

The terms of even order cancel in the difference, exactly, where both have the same weights and
probes.
"""

import dataclasses
import operator
import typing

__all__ = ["Negated", "alternating", "difference", "odd"]


def alternating(k):
    """Factors of `c_k J^k / k` in the value of log det(I + J), of `c_k J^k` in its vector w."""
    sign = 1 - 2 * (k % 2)
    return -sign, sign


def odd(k):
    """The same of `log det(I - J) - log det(I + J)`: what is left of even order is in w alone."""
    return -2 * (k % 2), -2 * (1 - k % 2)


@dataclasses.dataclass
class Negated:
    """-J, as far as a sum of the series looks at it; see `jacobian.py`."""

    jacobian: typing.Any

    @property
    def matrix(self):
        matrix = self.jacobian.matrix
        return None if matrix is None else [[-entry for entry in column] for column in matrix]

    @property
    def jvp(self):
        jvp = self.jacobian.jvp
        return lambda t: -jvp(t)

    def vjp(self, u):
        return -self.jacobian.vjp(u)


def difference(of_negated, of_jacobian):
    """`(log_det, w)` of the difference.

    As `d log det(I - J) = E[d(-w^T J v)]`, the two vectors w add up.

    Args:
      of_negated, of_jacobian: what `Law.sum` returns for -J, and for J.
    """
    (one, ws), (other, more) = of_negated, of_jacobian
    return one - other, list(map(operator.neg, map(operator.add, ws, more)))
