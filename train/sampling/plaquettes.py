"""What is exactly known of a plaquette, and of the topological charge, of U(1) on a torus.

All but one of the plaquettes are independent, each with the density `exp(beta cos t)`, once their
sum is held at a multiple of 2 pi. So the density of one angle t is that of itself times that of the
sum of the others at -t; and the charge, which is the sum of all angles in [-pi, pi) by 2 pi, has
the density of a sum of independent ones, at the multiples of 2 pi.
"""

import numpy as np

from tfresflow.targets.u1 import bessel

__all__ = ["charge_probabilities", "plaquette_density"]

_POINTS = 4096


def plaquette_density(angles, size, beta):
    """`p(t)` of the angle of a plaquette, t in [-pi, pi), on an L x L torus.

        p(t) ~ exp(beta cos t) sum_n I_n(beta)^(L^2 - 1) cos(n t)

    Args:
      angles: t, an array.
      size: L.
      beta: inverse coupling.
    """
    grid = 2 * np.pi * np.arange(_POINTS) / _POINTS
    ratios = bessel(beta)[1]
    ratios = ratios[:len(ratios) // 2] ** (size ** 2 - 1)  # of n >= 0
    orders = np.flatnonzero(ratios > 1e-18)

    def unnormalised(t):
        waves = np.cos(np.multiply.outer(t, orders)) * np.where(orders, 2, 1)
        return np.exp(beta * (np.cos(t) - 1)) * (waves @ ratios[orders])

    return unnormalised(np.asarray(angles)) / (unnormalised(grid).mean() * 2 * np.pi)


def charge_probabilities(size, beta, most=10):
    """`P(Q)` of the charges `Q = -most .. most`, an array.

    By the characteristic function of one angle, `phi(k) = <cos(k t)>`: `P(Q)` is in proportion to
    the integral of `phi(k)^(L^2) cos(2 pi Q k)` over k, as to the density of the sum.

    Args:
      size: L.
      beta: inverse coupling.
      most: the largest |Q|.
    """
    nodes, weights = np.polynomial.legendre.leggauss(400)
    angles, weights = np.pi * nodes, weights * np.exp(beta * (np.cos(np.pi * nodes) - 1))
    k = np.linspace(0, 40, 16001)
    characteristic = np.cos(np.multiply.outer(k, angles)) @ weights / weights.sum()
    charges = np.arange(-most, most + 1)
    values = characteristic ** (size ** 2) * np.cos(2 * np.pi * np.multiply.outer(charges, k))
    found = np.maximum(values.sum(axis=1) - values[:, 0] / 2, 0)  # the integrand is even
    return found / found.sum()
