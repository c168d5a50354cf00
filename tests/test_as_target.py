"""Distributions and functions as targets."""


import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.registry import example
from tests.test_targets import assert_zero_on_average, trapezoid
from tfresflow import targets

tfd = tfp.distributions


def joint():
    return tfd.JointDistributionNamedAutoBatched({
        "rate": tfd.Gamma(np.float64(3.0), np.float64(2.0)),
        "mean": tfd.Normal(np.float64(0.0), np.float64(1.0)),
        "x": lambda rate, mean: tfd.Sample(tfd.Normal(mean, 1 / rate), 3)})


def test_a_pinned_joint_distribution():
    """The integral over unconstrained numbers is the evidence, by another integral."""
    data = np.array([0.3, -1.2, 0.5])
    target = targets.as_target(joint().experimental_pin(x=data))
    assert target.event_shape == (2,) and target.log_z is None and not hasattr(target, "sample")
    got = trapezoid(target.log_prob, [np.linspace(-7, 7, 201), np.linspace(-30, 30, 1501)])

    def log_joint(points):
        mean, log_rate = points[..., 0], points[..., 1]
        return joint().log_prob(rate=np.exp(log_rate), mean=mean, x=np.broadcast_to(
            data, [*mean.shape, 3])) + log_rate

    want = trapezoid(log_joint, [np.linspace(-7, 7, 201), np.linspace(-20, 5, 1001)])
    np.testing.assert_allclose(got, want, atol=1e-7)
    x = example([2], 5)
    parts = target.constrain(x)
    assert set(parts) == {"rate", "mean"} and np.all(parts["rate"] > 0)
    np.testing.assert_allclose(target.unconstrain(parts), x, rtol=1e-12)
    single = tf.cast(x, tf.float32)
    assert target.log_prob(single).dtype == tf.float32


@pytest.mark.fast("sequential")
@pytest.mark.parametrize("whole", [
    joint, lambda: tfd.JointDistributionSequential([
        tfd.LogNormal(np.float64(0.0), 0.5),
        lambda scale: tfd.Independent(tfd.Normal(tf.zeros([*scale.shape, 2], tf.float64),
                                                 scale[..., tf.newaxis]), 1)])],
    ids=["named", "sequential"])
def test_a_joint_distribution(whole):
    """Normalised in its free numbers, the Jacobian's determinant counted: Stein, as above."""
    target, n = targets.as_target(whole()), 4_000
    x = target.sample(n, seed=1)
    assert target.log_z == 0 and x.shape == [n, *target.event_shape]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = target.log_prob(x)
    score = tape.gradient(y, x)
    for values in (score, x * score + 1):
        assert_zero_on_average(values)


def test_a_part_whose_free_numbers_are_fewer():
    model = tfd.JointDistributionSequentialAutoBatched([
        tfd.CholeskyLKJ(3, np.float64(2.0)), tfd.HalfNormal(np.ones(2))])
    target = targets.as_target(model)
    assert target.event_shape == (5,)
    x = example([5])
    parts = target.constrain(x)
    assert [p.shape for p in parts] == [(3, 3, 3), (3, 2)]
    np.testing.assert_allclose(target.unconstrain(parts), x, rtol=1e-10)


def test_a_function():
    target = targets.as_target(lambda x: -tf.reduce_sum(x ** 2, [1, 2]), [2, 3], dtype="float64")
    x = example([2, 3], 4)
    np.testing.assert_allclose(target.log_prob(x), -np.sum(x ** 2, (1, 2)))
    assert target.log_prob(tf.cast(x, tf.float32)).dtype == tf.float32
    assert target.log_z is None and not hasattr(target, "sample")
    assert targets.as_target(target) is target


class NoSamples:
    event_shape = (2,)

    def log_prob(self, x):
        return -tf.reduce_sum(x ** 2, axis=-1)


def test_a_density_without_samples():
    target = targets.as_target(NoSamples())
    assert target.log_z is None and not hasattr(target, "sample")
    np.testing.assert_allclose(target.log_prob(example([2])), -np.sum(example([2]) ** 2, 1))


@pytest.mark.parametrize("make, error", [
    (lambda: targets.as_target(3), "`thing` must be a target, a distribution with"),
    (lambda: targets.as_target(targets.U1), "`thing` must be a target, a distribution with"),
    (lambda: targets.as_target(tf.reduce_sum), "`event_shape` must be given with a function"),
    (lambda: targets.as_target(targets.ManyWell(4), [3]), r"`event_shape` must be that of the tar"),
    (lambda: targets.as_target(tfd.Normal([0.0], 1.0)), "`thing` must have an event shape of at "),
    (lambda: targets.as_target(tfd.JointDistributionSequential([tfd.Normal([0.0], 1.0)])),
     "`thing` must have no batch shape"),
    (lambda: targets.as_target(lambda x: x, [2]).log_prob([[1.0, 2.0]]),
     "`thing` must give one log-density for each x"),
])
def test_errors(make, error):
    with pytest.raises(ValueError, match=error):
        make()
