"""Tables whose density is known, for the tests of `FlowDensity`."""

import numpy as np
import pandas as pd
import scipy.stats

TINY = {"nblocks": 1, "dims": (8,), "max_steps": 20, "validate_every": 10, "random_state": 0}
MEAN, COVARIANCE = np.array([1e6, 0.0, -2.0]), np.array(
    [[100.0, 8.0, 0.0], [8.0, 1.0, 1e-3], [0.0, 1e-3, 1e-4]])
GAUSSIAN = scipy.stats.multivariate_normal(MEAN, COVARIANCE)
ROWS = GAUSSIAN.rvs(4000, random_state=0)


def mixed(count=1500):
    """A count, a category that depends on a measured number, and another that does not."""
    random = np.random.RandomState(1)
    x = random.randn(count)
    colour = np.where(x + 0.3 * random.randn(count) > 0.5, "red", "blue")
    return pd.DataFrame({"x": x, "n": random.poisson(3.0, count), "colour": colour,
                         "old": random.rand(count) < 0.2})
