"""The standard normal base, against TFP's."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from tests.registry import example
from tfresflow import losses

tfd = tfp.distributions


def test_log_prob_is_tfps():
    z = example([2, 3], 4)
    want = tfd.Independent(tfd.Normal(tf.zeros([2, 3], tf.float64), 1.0), 2).log_prob(z)
    np.testing.assert_allclose(losses.StandardNormal([2, 3], "float64").log_prob(z), want)


def test_samples_are_standard_normal():
    base = losses.StandardNormal([2, 3], "float64")
    z = base.sample(20000, [1, 2]).numpy()
    assert z.shape == (20000, 2, 3) and z.dtype == np.float64
    z = z.reshape(-1, 6)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.03)  # four standard errors each
    np.testing.assert_allclose(np.cov(z.T), np.eye(6), atol=0.04)
    np.testing.assert_allclose((z ** 4).mean(0), 3, atol=0.28)
    np.testing.assert_array_equal(z, np.reshape(base.sample(20000, [1, 2]), [-1, 6]))
    assert np.all(z != np.reshape(base.sample(20000, [1, 3]), [-1, 6]))
