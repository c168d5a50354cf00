"""TensorFlow's vectorised loops over a density in the plane, with the default estimator."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from tests.registry import branch, example

tfb, tfd = tfp.bijectors, tfp.distributions


@pytest.mark.slow
def test_maps_and_jacobians_of_a_density():
    flow = bijectors.Chain([bijectors.InvertibleResidual(branch([2], hidden=4), [2])])
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), [2])
    dist, x = tfd.TransformedDistribution(base, tfb.Invert(flow)), example([2])

    def one(row):
        with tf.GradientTape() as tape:
            tape.watch(row)
            value = dist.log_prob(row[tf.newaxis], bijector_kwargs={"seed": 3})[0]
        return value, tape.gradient(value, row)

    want = [one(row) for row in x]
    values, gradients = tf.vectorized_map(one, x, fallback_to_while_loop=False)
    for got, each in zip((values, gradients), zip(*want)):
        np.testing.assert_allclose(got, tf.stack(each), rtol=1e-10, atol=1e-12)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        log_prob = dist.log_prob(x, bijector_kwargs={"seed": 3})
        column = log_prob[:, tf.newaxis]
    gradient = tape.gradient(log_prob, x)
    assert np.abs(gradient).min() > 1e-3
    np.testing.assert_allclose(tf.reduce_sum(tape.jacobian(log_prob, x), 0), gradient, rtol=1e-10)
    np.testing.assert_allclose(tape.batch_jacobian(column, x)[:, 0], gradient, rtol=1e-10)
