"""Many double wells, side by side."""

import dataclasses
import functools
import math

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_size
from tfresflow.targets.quantiles import quantile, table
from tfresflow.targets.target import Target, drawn

__all__ = ["ManyWell"]

_GRID = np.linspace(-4.0, 4.0, 2 ** 15 + 1)  # beyond it, the density is below 1e-60


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class ManyWell(Target):
    """D/2 double wells, and so 2^(D/2) modes, of unequal depth.

        log_prob(x) = sum_i -a_i^4 + 6 a_i^2 + a_i / 2 - b_i^2 / 2,    x = (a_1, b_1, a_2, b_2, ...)

    `log_z` is an integral over one coordinate: 30.880 in 6 dimensions, 164.696 in 32.

    Args:
      dimensions: D, an even number.

    Raises:
      ValueError: if `dimensions` is not an even number, at least 2.

    Example:
      >>> from tfresflow import targets
      >>> target = targets.ManyWell(6)
      >>> round(target.log_z, 3), target.log_prob([[0.0, 1.0] * 3]).numpy().tolist()
      (30.88, [-1.5])
      >>> target.sample(5, seed=0).shape
      TensorShape([5, 6])

    References: Noe et al., Boltzmann generators (2019); Midgley et al., Flow annealed importance
    sampling bootstrap (2023).
    """

    dimensions: int = 32

    def __post_init__(self):
        object.__setattr__(self, "dimensions", as_size("dimensions", self.dimensions))
        check(self.dimensions % 2 == 0, "dimensions", "be an even number", self.dimensions)

    @property
    def event_shape(self):
        """`(D,)`."""
        return (self.dimensions,)

    @property
    def log_z(self):
        """`log Z`, nats, exact to rounding."""
        # The trapezoidal rule converges faster than any power for what vanishes at both ends.
        return float(self.dimensions / 2 * (_log_mass() + math.log(2 * math.pi) / 2))

    def log_density(self, x):
        """`log p(x) + log Z`, see `log_prob`."""
        wells, others = x[..., ::2], x[..., 1::2]
        return tf.reduce_sum(_log_well(wells) - others ** 2 / 2, axis=-1)

    def sample(self, n, seed=None, dtype=None):
        """`[n, D]` samples: of the wells by their quantiles, tabulated in steps of 0.00024.

        Args:
          n: number of samples.
          seed: as for `seeds.as_seed`.
          dtype: of the samples; default Keras's float type.
        """
        (for_wells, for_others), dtype = drawn(seed, 2, dtype)
        shape = [n, self.dimensions // 2]
        uniform = tf.random.stateless_uniform(shape, for_wells, dtype=tf.float64)
        wells = tf.cast(quantile(*_table(), uniform), dtype)
        others = tf.random.stateless_normal(shape, for_others, dtype=dtype)
        return tf.reshape(tf.stack([wells, others], axis=-1), [-1, self.dimensions])


def _log_well(a):
    return (-a ** 2 + 6) * a ** 2 + a / 2


def _log_mass():
    values = _log_well(_GRID)
    step, largest = _GRID[1] - _GRID[0], values.max()
    return largest + math.log(step * np.exp(values - largest).sum())


@functools.cache
def _table():
    return table(_log_well, _GRID[0], _GRID[-1], len(_GRID))
