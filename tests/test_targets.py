"""Targets: what is exactly known of each holds, and symmetries do."""

import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.registry import example
from tfresflow import targets

tfd = tfp.distributions

CORNERS = list(itertools.product([-1.0, 1.0], repeat=3))
TARGETS = {
    "mixture": targets.GaussianMixture(3),
    "mixture_of_given": targets.GaussianMixture(
        locs=[[0.0, 1.0], [3.0, -1.0]], weights=[1, 3], variance=[0.5, 1.5]),
    "many_well": targets.ManyWell(4),
    "funnel": targets.Funnel(3, scale=1.5),
    "free": targets.Phi4(3, m2=0.5, lam=0.0),
    "free_of_kappa": targets.Phi4.of_kappa(4, m2=0.7, lam=0.0, kappa=0.3),
    "phi4": targets.Phi4(4, m2=-4.0, lam=6.0),
    "u1": targets.U1(3, beta=1.5),
    "distribution": targets.as_target(tfd.MultivariateNormalDiag(
        np.array([1.0, -2.0]), np.array([0.5, 2.0]))),
}
SAMPLED = [name for name, target in TARGETS.items()
           if hasattr(target, "sample") and not isinstance(target, targets.U1)]
every_target = pytest.mark.parametrize("name", TARGETS)


def trapezoid(log_density, grid):
    """Log of the integral over a cube of what vanishes at its border."""
    points = np.stack(np.meshgrid(*grid, indexing="ij"), -1)
    steps = sum(math.log(axis[1] - axis[0]) for axis in grid)
    return float(tf.reduce_logsumexp(log_density(points))) + steps


def assert_zero_on_average(values):
    """Within 4 standard errors, each column."""
    error = np.std(values, axis=0) / math.sqrt(len(values))
    assert (np.abs(np.mean(values, axis=0)) < 4 * error).all()


# Laws -------------------------------------------------------------------------------------------


@every_target
def test_leading_dimensions_and_dtypes(name):
    target = TARGETS[name]
    x = example(target.event_shape, 6)
    want = target.log_prob(x)
    assert want.shape == [6] and want.dtype == tf.float64
    folded = target.log_prob(tf.reshape(x, [2, 3, *target.event_shape]))
    np.testing.assert_allclose(folded, tf.reshape(want, [2, 3]), rtol=1e-13)
    np.testing.assert_allclose(target.log_prob(x[0]), want[0], rtol=1e-13)
    single = target.log_prob(tf.cast(x, tf.float32))
    assert single.dtype == tf.float32
    np.testing.assert_allclose(single, want, rtol=1e-5)
    traced = tf.function(target.log_prob, input_signature=[
        tf.TensorSpec([None, *target.event_shape], tf.float64)])
    np.testing.assert_allclose(traced(x), want, rtol=1e-13)
    with pytest.raises(ValueError, match="`x` must be "):
        target.log_prob(x[..., :-1])


@every_target
def test_gradients_are_those_of_differences(name):
    target = TARGETS[name]
    x, direction = example(target.event_shape, 4), example(target.event_shape, 4, seed=2)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = target.log_prob(x)
    got = tf.reduce_sum(tf.reshape(tape.gradient(y, x) * direction, [4, -1]), axis=1)
    above, below = (target.log_prob(x + step * direction) for step in (1e-5, -1e-5))
    np.testing.assert_allclose(got, (above - below) / 2e-5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("far", [0.0, 1e3])
@every_target
def test_gradients_are_finite(name, far):
    target = TARGETS[name]
    x = far * tf.sign(example(target.event_shape, 4)) * (1 if name != "funnel" else 0.1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = target.log_prob(x)
    assert np.isfinite(y).all() and np.isfinite(tape.gradient(y, x)).all()


@every_target
def test_saved_and_loaded(name):
    target = TARGETS[name]
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(target)))
    loaded = keras.saving.deserialize_keras_object(config)
    x = example(target.event_shape)
    np.testing.assert_array_equal(loaded.log_prob(x), target.log_prob(x))
    assert loaded.log_z == target.log_z and loaded.event_shape == target.event_shape
    if name != "distribution":
        assert loaded == target and hash(loaded) == hash(target)


@pytest.mark.parametrize("name", [*SAMPLED, "u1"])
def test_samples_in_a_graph_are_those_without(name):
    target = TARGETS[name]
    traced = tf.function(lambda seed: target.sample(20, seed), autograph=False)
    np.testing.assert_allclose(traced(tf.constant([1, 2])), target.sample(20, [1, 2]), atol=1e-5)


@pytest.mark.parametrize("name", SAMPLED)
def test_samples_are_of_the_density(name):
    """Stein: `E[d log p] = 0`, and `E[x_i d_i log p] = -1` for each i, within 4 standard errors."""
    target, n = TARGETS[name], 40_000
    x = tf.cast(target.sample(n, seed=3), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = target.log_prob(x)
    score = tape.gradient(y, x)
    for values in (score, x * score + 1):
        values = tf.reshape(values, [n, -1])
        assert_zero_on_average(values)
    np.testing.assert_array_equal(target.sample(3, seed=5), target.sample(3, seed=5))
    assert np.any(target.sample(3, seed=5) != target.sample(3, seed=6))


# Each -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target, grid", [
    (targets.GaussianMixture(2), [np.linspace(-8, 8, 301)] * 2),
    (TARGETS["mixture_of_given"], [np.linspace(-12, 15, 401)] * 2),
    (targets.ManyWell(2), [np.linspace(-4, 4, 401), np.linspace(-9, 9, 101)]),
    (targets.as_target(tfd.MultivariateNormalTriL(
        np.zeros(2), np.array([[1.0, 0.0], [0.5, 0.7]]))), [np.linspace(-9, 9, 301)] * 2)],
    ids=["mixture", "mixture_of_given", "many_well", "distribution"])
def test_log_z_is_the_integral(target, grid):
    np.testing.assert_allclose(trapezoid(target.log_prob, grid), target.log_z, atol=1e-10)


def test_the_funnel_is_normalised():
    """In the coordinates in which it is a normal."""
    target = targets.Funnel(2, scale=1.5)

    def log_density(points):
        first = points[..., 0]
        x = np.stack([first, points[..., 1] * np.exp(first / 2)], -1)
        return target.log_prob(x) + first / 2

    grid = [np.linspace(-14, 14, 201), np.linspace(-9, 9, 201)]
    np.testing.assert_allclose(trapezoid(log_density, grid), 0, atol=1e-10)


def test_many_well_has_the_published_constants():
    assert [round(targets.ManyWell(d).log_z, 3) for d in (6, 32)] == [30.88, 164.696]
    x = targets.ManyWell(2).sample(40_000, seed=1, dtype="float64")[:, 0]
    grid = np.linspace(-4, 4, 2001)
    density = np.exp(-grid ** 4 + 6 * grid ** 2 + grid / 2)
    right = density[grid > 0].sum() / density.sum()  # the deeper well
    assert abs(np.mean(x > 0) - right) < 4 * math.sqrt(right * (1 - right) / 40_000)


def test_the_product_is_the_mixture_of_all_modes():
    x = 2 * example([3], 50)
    whole = targets.GaussianMixture(locs=CORNERS)
    np.testing.assert_allclose(TARGETS["mixture"].log_prob(x), whole.log_prob(x), rtol=1e-12)
    many = targets.GaussianMixture(500)
    x = many.sample(1000, seed=0)
    assert np.isfinite(many.log_prob(x)).all()
    np.testing.assert_allclose(np.var(x), 1.5, atol=0.02)


@pytest.mark.parametrize("make, error", [
    (lambda: targets.GaussianMixture(), "`dimensions` must be a number, or `locs` be given"),
    (lambda: targets.GaussianMixture(2, locs=[[0.0]]), r"`locs` must be finite numbers \[K, D\]"),
    (lambda: targets.GaussianMixture(2, weights=[1, 2]), "`weights` must be None where"),
    (lambda: targets.GaussianMixture(locs=[[0.0]], weights=[1, 2]), "`weights` must be finite"),
    (lambda: targets.GaussianMixture(locs=[[0.0]], weights=[-1]), "`weights` must be positive"),
    (lambda: targets.GaussianMixture(2, variance=0), "`variance` must be positive"),
    (lambda: targets.GaussianMixture(2, variance=[1, -1]), "`variance` must be positive"),
    (lambda: targets.ManyWell(3), "`dimensions` must be an even number"),
    (lambda: targets.Funnel(1), "`dimensions` must be at least 2"),
    (lambda: targets.Funnel(3, scale=-1), "`scale` must be positive"),
    (lambda: targets.Phi4(1, 1, 1), "`size` must be at least 2"),
    (lambda: targets.Phi4(4, 1, -1), "`lam` must not be negative"),
    (lambda: targets.Phi4(4, -1, 0), "`m2` must be large enough for a positive definite"),
    (lambda: targets.Phi4.of_kappa(4, "1", 0), "`m2` must be a finite number"),
    (lambda: targets.U1(4, -1), "`beta` must not be negative"),
])
def test_errors(make, error):
    with pytest.raises(ValueError, match=error):
        make()


def test_what_has_no_samples_says_why():
    with pytest.raises(AttributeError, match="lam=0 only. Received: lam=6.0"):
        TARGETS["phi4"].sample(3)


@pytest.mark.parametrize("target", [targets.ManyWell(2), targets.GaussianMixture(2),
                                    targets.Funnel(2)], ids=lambda t: type(t).__name__)
def test_samples_of_a_graph_are_those_of_eager_calls(target):
    drawn = tf.function(lambda: target.sample(5, 3, "float64"), autograph=False)()
    np.testing.assert_allclose(drawn, target.sample(5, 3, "float64"), rtol=1e-12)
