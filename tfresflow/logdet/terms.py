"""Which terms of the power series are summed, and how: what `LogDet` takes as `coefficients`."""

import dataclasses
import math
import typing

import tensorflow as tf

from tfresflow.functions.steps import say_together
from tfresflow.functions.traced import is_shareable
from tfresflow.logdet.difference import Negated, difference, odd
from tfresflow.logdet.series import rounds, sum_beside, sum_series
from tfresflow.saving.configurable import Configurable

__all__ = ["BITS", "Law", "Terms", "law_of", "sum_odd_series"]

BITS = 53  # of the random numbers that laws draw, as many as float64 has


class Law(Configurable):
    """Base of the laws for the number of terms; a subclass defines `draw`.

    What is drawn are the weights of the terms, one for each k. A law whose weights follow from the
    terms themselves overrides the sums, too, and draws what these need.

    Attributes:
      has_terms: whether `sum` is a sum of terms, which `Series` differentiates.
    """

    has_terms = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "sum_odd", "sum", by=Law)

    def draw(self, seed, dtype):
        """`[K + 1]`: weights of J^0, J^1, ..., the first of which is 1.

        Args:
          seed: `[2]` integer tensor.
          dtype: of the weights.
        """
        raise NotImplementedError(f"{type(self).__name__}.draw")

    def weights(self):
        """Of each term, where it is drawn, a numpy array from J^0 on; None if there are none."""
        return None

    sum = staticmethod(sum_series)

    def sum_plainly(self, jacobian, v, drawn):
        """The same sum, by operations whose derivatives are those of the value and of w."""
        return self.sum(jacobian, v, drawn)

    def sum_odd(self, jacobian, v, drawn):
        """The sum for `log det(I - J) - log det(I + J)`, where all terms of even order cancel."""
        return difference(self.sum(Negated(jacobian), v, drawn), self.sum(jacobian, v, drawn))

    def halved(self):
        """The same law with half of the error that it admits, for a difference of two sums."""
        return self

    def bounds(self, jacobian, v, drawn):
        """`(lower, upper)`, `[N]` each: proven bounds of the mean of the sum over all draws.

        Here there are none. The probes are given.
        """
        unknown = tf.fill(tf.shape(v[0])[:1], tf.constant(math.inf, v[0].dtype))
        return -unknown, unknown

    def in_block(self, floor):
        """The same law, for a residual block.

        Args:
          floor: a positive number below all singular values of I + J, or None.
        """
        del floor
        return self

    def prepare(self, drawn):
        """What `sum_beside` takes of that which was drawn: once for all parts of a batch."""
        return rounds(drawn)

    def sum_beside(self, v, product, other, prepared):
        """See `series.sum_beside`."""
        return sum_beside(v, product, other, prepared)


def sum_odd_series(jacobian, v, c):
    """`Law.sum_odd` of laws whose `sum` is `sum_series`: half of the work."""
    return sum_series(jacobian, v, c, signs=odd)


@dataclasses.dataclass(frozen=True)
class _Given(Law):
    """Any object that has `draw`."""

    rule: typing.Any

    sum_odd = staticmethod(sum_odd_series)

    def draw(self, seed, dtype):
        return self.rule.draw(seed, dtype)

    @property
    def shareable(self):
        """Whether equal ones always compute the same, so that blocks may share a graph."""
        return is_shareable(self.rule)


def law_of(rule):
    """The `Law` of an object that has `draw`, and may have more of one."""
    return rule if hasattr(rule, "sum") else _Given(rule)


@dataclasses.dataclass(frozen=True, eq=False)
class Terms:
    """A law, and what was drawn from it for one estimate.

    Args:
      law: a `Law`.
      drawn: a tensor.
    """

    law: Law
    drawn: typing.Any

    def sum(self, jacobian, v):
        """`(log_det, w)`, see `series.sum_series`."""
        return self.law.sum(jacobian, v, self.drawn)

    def sum_plainly(self, jacobian, v):
        """The same, differentiable."""
        return self.law.sum_plainly(jacobian, v, self.drawn)

    def bounds(self, jacobian, v):
        """`(lower, upper)`, see `Law.bounds`."""
        return self.law.bounds(jacobian, v, self.drawn)
