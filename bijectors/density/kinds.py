"""What a column of a table can hold, and how its values become real numbers of about unit scale.

Each kind is a frozen object with `forward(values, noise) -> (z, log_slope)` and `inverse(z)`.
Noise is uniform in [0, 1); `log_slope` is `log |dz/dv|`, where v is the value of a measured column,
and the noise of a counted or a named one. So a density of z, times the slopes, is a density of the
measured columns and, in the mean over the noise, a probability of the others.
"""

import dataclasses

import numpy as np
from scipy import special

__all__ = ["Categorical", "Continuous", "Counted", "moments"]

_EDGE = 1e-12  # probit is finite inside of (0, 1) only


@dataclasses.dataclass(frozen=True)
class Continuous:
    """Measured numbers: `z = (x - mean) / scale`.

    Args:
      mean, scale: of the rows that were fitted.
    """

    mean: float
    scale: float
    is_noisy = False

    def forward(self, values, noise):
        """`(z, log_slope)`, both `[n]`, of values `[n]`; noise is not used."""
        return (values - self.mean) / self.scale, np.full(len(values), -np.log(self.scale))

    def inverse(self, z):
        """Values `[n]` of z `[n]`."""
        return z * self.scale + self.mean


@dataclasses.dataclass(frozen=True)
class Counted:
    """Whole numbers k: `z = (k + noise - mean) / scale`, noise uniform in [0, 1).

    Args:
      mean, scale: of `k + noise`.
      typed: whether the type of the column is one of integers.
    """

    mean: float
    scale: float
    typed: bool = True
    is_noisy = True

    def forward(self, values, noise):
        """`(z, log_slope)`, both `[n]`, of whole numbers `[n]`."""
        return (values + noise - self.mean) / self.scale, np.full(len(values), -np.log(self.scale))

    def inverse(self, z):
        """Whole numbers `[n]` of z `[n]`."""
        return np.floor(z * self.scale + self.mean)


@dataclasses.dataclass(frozen=True)
class Categorical:
    """Codes 0, 1, ... of categories: `z = probit(F(code) + P(code) noise)`.

    P is the share of a category among the rows that were fitted, F that of all before it. So z is
    standard normal in these rows, whatever the shares, and a flow has only to learn how the column
    depends on others.

    Args:
      shares: P of each code, a tuple of positive numbers whose sum is 1.
    """

    shares: tuple[float, ...]
    is_noisy = True

    def forward(self, values, noise):
        """`(z, log_slope)`, both `[n]`, of codes `[n]`."""
        codes, shares = values.astype(int), np.array(self.shares)
        before = np.cumsum(shares) - shares
        inside = np.clip(before[codes] + shares[codes] * noise, _EDGE, 1 - _EDGE)
        z = special.ndtri(inside)
        return z, np.log(shares[codes]) + 0.5 * (z ** 2 + np.log(2 * np.pi))

    def inverse(self, z):
        """Codes `[n]` of z `[n]`."""
        ends = np.cumsum(self.shares)[:-1]
        return np.searchsorted(ends, special.ndtr(z), side="right").astype(np.float64)


def moments(values, weights):
    """Mean and standard deviation of values `[n]` with these weights `[n]`."""
    mean = np.average(values, weights=weights)
    return mean, np.sqrt(np.average((values - mean) ** 2, weights=weights))
