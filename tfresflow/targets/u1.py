"""U(1) gauge theory on a periodic lattice in two dimensions."""

import dataclasses
import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check_number
from tfresflow.checks.sizes import as_size
from tfresflow.functions.torus import plaquettes, principal, rolled
from tfresflow.targets.quantiles import quantile, table
from tfresflow.targets.target import Target, drawn

__all__ = ["U1", "bessel"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class U1(Target):
    """`p(theta) = exp(beta sum_P cos theta_P) / Z` for the angles theta of the links of a torus.

    x is `[..., L, L, 2]`: of the links that leave a site in direction 0, along the first axis, and
    in direction 1. The angle of the plaquette at a site y is

        theta_P = theta_0(y) + theta_1(y+0) - theta_0(y+1) - theta_1(y)

    Neither does the density change with a gauge transformation, `theta_mu(y) + a(y) - a(y+mu)` for
    any a, nor when 2 pi is added to an angle: it is one of angles, normalised on `[-pi, pi)`. With
    I_n the modified Bessel functions,

        Z = (2 pi)^(2 L^2) sum_n I_n(beta)^(L^2)

    Args:
      size: L, at least 2.
      beta: inverse coupling, not negative.

    Raises:
      ValueError: if an argument is not what it should be.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import targets
      >>> target = targets.U1(8, beta=2.0)
      >>> target.log_prob(tf.zeros([1, 8, 8, 2])).numpy().tolist()        # 64 beta
      [128.0]
      >>> round(target.log_z, 3)
      287.984
      >>> target.topological_charge(tf.zeros([1, 8, 8, 2])).numpy().tolist()
      [0.0]
      >>> target.sample(5, seed=0).shape
      TensorShape([5, 8, 8, 2])

    References: Kanwar et al., Equivariant flow-based sampling for lattice gauge theory (2020).
    """

    size: int
    beta: float

    def __post_init__(self):
        object.__setattr__(self, "size", as_size("size", self.size, 2))
        check_number("beta", self.beta, "not be negative", lambda value: 0 <= value < math.inf)

    @property
    def event_shape(self):
        """`(L, L, 2)`."""
        return self.size, self.size, 2

    @property
    def log_z(self):
        """`log Z`, nats, exact to rounding."""
        sites = self.size ** 2
        log_i0, ratios = bessel(self.beta)
        total = math.log(np.sum(ratios ** sites))
        return 2 * sites * math.log(2 * math.pi) + sites * log_i0 + total

    def log_density(self, x):
        """`beta sum_P cos theta_P`, see `log_prob`."""
        return self.beta * tf.reduce_sum(tf.cos(plaquettes(x)), axis=[-2, -1])

    def sample(self, n, seed=None, dtype=None):
        """`[n, L, L, 2]` exact samples, in `[-pi, pi)`.

        All plaquettes but one are drawn independently, from `exp(beta cos theta_P)`, and kept with
        the probability `exp(beta (cos theta_P - 1))` of the last one, which is minus the sum of
        the others. They say the links up to two angles, that lead around the torus, and a gauge
        transformation, which are uniform.

        Args:
          n: number of samples.
          seed: as for `seeds.as_seed`.
          dtype: of the samples; default Keras's float type.
        """
        (for_plaquettes, for_turns, for_gauge), dtype = drawn(seed, 3, dtype)
        fields = tf.reshape(self._plaquettes(n, for_plaquettes), [-1, self.size, self.size])
        turns, gauge = (tf.random.stateless_uniform(shape, own, -math.pi, math.pi, tf.float64)
                        for shape, own in (([n, 2, 1], for_turns), (tf.shape(fields), for_gauge)))
        links = _links(fields, turns) + tf.stack(
            [gauge - rolled(gauge, -1, axis) for axis in (-2, -1)], axis=-1)
        return tf.cast(principal(links), dtype)

    def _plaquettes(self, n, seed):
        """`[n, L^2]`, of which the sum is 0."""
        known, shape = self._table(), [n, self.size ** 2 - 1]

        def draw(i, fields, done):
            for_fields, for_chance = seeds.split(seeds.fold_in(seed, i), 2)
            new = quantile(*known, tf.random.stateless_uniform(shape, for_fields, dtype=tf.float64))
            chance = tf.random.stateless_uniform([n], for_chance, dtype=tf.float64)
            good = tf.math.log(chance) < self.beta * (tf.cos(tf.reduce_sum(new, axis=1)) - 1)
            return i + 1, tf.where((good & ~done)[:, tf.newaxis], new, fields), done | good

        _, fields, _ = tf.while_loop(
            lambda i, fields, done: ~tf.reduce_all(done), draw,
            (tf.constant(0), tf.zeros(shape, tf.float64), tf.fill([n], False)))
        return tf.concat([fields, -tf.reduce_sum(fields, axis=1, keepdims=True)], axis=1)

    def _table(self):
        return table(lambda angle: self.beta * np.cos(angle), -math.pi, math.pi)

    # Observables ----------------------------------------------------------------------------

    def action(self, x):
        """`S = -beta sum_P cos theta_P`, `[...]`."""
        return -self.log_prob(x)

    def plaquettes(self, x):
        """The angles of the plaquettes, `[..., L, L]`, sums of links, not brought to [-pi, pi)."""
        return plaquettes(self.take(x))

    def topological_charge(self, x):
        """`sum_P theta_P / (2 pi)`, `[...]`, the angles brought to [-pi, pi): whole numbers."""
        turns = self.plaquettes(x) / (2 * math.pi)
        return tf.reduce_sum(turns - tf.round(turns), axis=[-2, -1])


def _links(fields, turns):
    """Links whose plaquettes are `fields [n, L, L]`, of sum 0: those of a tree are 0.

    Args:
      fields: angles of the plaquettes.
      turns: `[n, 2, 1]`, angles around the torus, which no plaquette tells.
    """
    first = -tf.cumsum(fields, axis=2, exclusive=True)
    # What is left over along the second axis is made up for by its last links.
    last = tf.cumsum(tf.reduce_sum(fields, axis=2, keepdims=True), axis=1, exclusive=True)
    second = tf.concat([tf.zeros_like(fields[..., 1:]), last], axis=2)
    size = fields.shape[1]
    row = tf.one_hot(0, size, dtype=fields.dtype)
    return tf.stack([first + turns[:, :1] * row[:, tf.newaxis], second + turns[:, 1:] * row], -1)


def bessel(beta):
    """`log I_0(beta)` and `I_n(beta) / I_0(beta)` of all whole n that count.

    `I_n` is the n-th Fourier coefficient of `exp(beta cos t)`: by the trapezoidal rule on a grid
    fine enough for the width of its peak, `beta^(-1/2)`, exact to rounding, for any beta.
    """
    count = 2 ** math.ceil(math.log2(128 + 32 * math.sqrt(beta)))
    angles = 2 * np.pi * np.arange(count) / count
    coefficients = np.fft.fft(np.exp(beta * (np.cos(angles) - 1))).real / count
    # The ratios are positive; rounding leaves some that are next to nothing below zero.
    return beta + math.log(coefficients[0]), np.maximum(coefficients / coefficients[0], 0)
