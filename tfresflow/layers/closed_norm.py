"""Norms in closed form."""

import dataclasses
import typing

import tensorflow as tf

from tfresflow.layers.constraint import Norm
from tfresflow.layers.norms import closed_norm

__all__ = ["ClosedNorm"]


class _State(typing.NamedTuple):
    kernel: tf.Tensor


@dataclasses.dataclass(frozen=True)
class ClosedNorm(Norm):
    """`||W||_{p->q}` where p = 1 or q = inf: that of the largest column, or row, of W.

    It is exact, and no vectors are kept.
    """

    p: float
    q: float

    State: typing.ClassVar[typing.Any] = _State

    def sigma(self, function, state):
        return closed_norm(function, state.kernel, self.p, self.q)

    def measure(self, function, kernel, orders, iterate=None, seed=1):
        return closed_norm(function, kernel, self.p, self.q)
