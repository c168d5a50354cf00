"""Samples of one coordinate of any density, by a table of its distribution function."""

import numpy as np
import tensorflow as tf

__all__ = ["quantile", "table"]


def table(log_density, low, high, points=2 ** 15 + 1):
    """`(cumulative, grid)` on [low, high], where the distribution function rises.

    Args:
      log_density: of a NumPy array of places, known up to a constant.
      low, high: the ends, beyond which there is nothing.
      points: of the grid.

    Returns:
      Two arrays of float64, `cumulative` from 0 to 1.
    """
    grid = np.linspace(low, high, points)
    values = log_density(grid)
    density = np.exp(values - values.max())
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cumulative /= cumulative[-1]
    # Where it does not, next to nothing is: these places have no quantiles.
    rises = np.concatenate([[True], np.diff(cumulative) > 0])
    return cumulative[rises], grid[rises]


def quantile(cumulative, grid, uniform):
    """The inverse of the distribution function, linear between the points of the table.

    Args:
      cumulative, grid: see `table`.
      uniform: float64 in [0, 1), any shape; most steps are of less mass than float32 can tell.

    Returns:
      float64, of the same shape.
    """
    cumulative, grid = tf.constant(cumulative), tf.constant(grid)
    flat = tf.reshape(uniform, [-1])
    above = tf.clip_by_value(tf.searchsorted(cumulative, flat, side="right"), 1, grid.shape[0] - 1)
    low, high = (tf.gather(cumulative, i) for i in (above - 1, above))
    left, right = (tf.gather(grid, i) for i in (above - 1, above))
    return tf.reshape(left + (flat - low) / (high - low) * (right - left), tf.shape(uniform))
