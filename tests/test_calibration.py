"""Posteriors learned from simulations: as calibrated as they must be, and right where it is known.

Simulation-based calibration (Talts et al. 2018): the rank of the true parameters among draws of
the posterior, given what was observed with them, is uniform.
"""

import keras
import numpy as np
import pytest
from scipy import stats

from bijectors import flows, norm_report
from tfresflow import FlowModel, optimizers

pytestmark = pytest.mark.slow
SIMULATIONS, DRAWS = 1000, 39
MATRIX = np.array([[1.0, 0.5], [-0.3, 0.8], [0.6, -1.0]])
NOISE = 0.5


def linear_gaussian(n, seed):
    """`(theta, x)`: `theta ~ N(0, I)`, and `x = A theta` with noise, in three dimensions."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=[n, 2])
    return theta, theta @ MATRIX.T + NOISE * rng.normal(size=[n, 3])


def closed_form(x):
    """Means `[N, 2]` and the one covariance of `p(theta | x)` of `linear_gaussian`."""
    covariance = np.linalg.inv(np.eye(2) + MATRIX.T @ MATRIX / NOISE ** 2)
    return x @ MATRIX @ covariance / NOISE ** 2, covariance


def two_moons(n, seed):
    """`(theta, x)`: theta is on one of two thin crescents (Greenberg et al. 2019)."""
    rng = np.random.default_rng(seed)
    theta = rng.uniform(-1, 1, [n, 2])
    angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, n), rng.normal(0.1, 0.01, n)
    first, second = theta.T
    return theta, np.stack([radius * np.cos(angle) + 0.25 - abs(first + second) / 2 ** 0.5,
                            radius * np.sin(angle) + (second - first) / 2 ** 0.5], axis=1)


def trained(flow, simulator, epochs, rate):
    """A model of 50,000 simulations, in batches of 500."""
    model = FlowModel(flow)
    schedule = keras.optimizers.schedules.CosineDecay(rate, 100 * epochs)
    model.compile(optimizers.Adam(schedule, global_clipnorm=1.0))
    model.fit(simulator(50_000, seed=1), batch_size=500, epochs=epochs, verbose=0)
    assert norm_report(flow).certified
    return model


@pytest.fixture(scope="module")
def gaussian():
    keras.utils.set_random_seed(0)
    flow = flows.tabular_flow(2, nblocks=2, dims=16, context_shape=3, seed=0)
    return trained(flow, linear_gaussian, epochs=15, rate=1e-2)


@pytest.fixture(scope="module")
def moons():
    keras.utils.set_random_seed(0)
    dense = keras.layers.Dense
    network = keras.Sequential([dense(32, "silu"), dense(32, "silu"), dense(16)])
    flow = flows.tabular_flow(2, nblocks=8, dims=(32, 32), act="sin", coeff=0.98, context_shape=2,
                              context_network=network, context_gates=True, seed=0)
    return trained(flow, two_moons, epochs=30, rate=1e-2)


def assert_calibrated(model, simulator):
    """Ranks are uniform, and intervals hold as many true parameters as they should."""
    theta, x = simulator(SIMULATIONS, seed=13)
    draws = model.sample(DRAWS, seed=5, context=x).numpy()
    ranks = np.sum(draws < theta.astype("float32"), axis=0)
    for rank in ranks.T:
        counts = np.bincount(rank * 20 // (DRAWS + 1), minlength=20)
        assert stats.chisquare(counts).pvalue > 0.01
        for share in (0.5, 0.9):
            inside = np.mean(abs(rank - DRAWS / 2) < share * (DRAWS + 1) / 2)
            assert abs(inside - share) < 3 * (share * (1 - share) / SIMULATIONS) ** 0.5


def mass(model, context, low, high, count):
    """The integral of `p(theta | context)` over a square."""
    side = np.linspace(low, high, count)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    density = np.exp(model.log_prob(grid, context=context), dtype=np.float64)
    return density.sum() * (side[1] - side[0]) ** 2


def test_linear_gaussian_is_calibrated(gaussian):
    assert_calibrated(gaussian, linear_gaussian)


def test_linear_gaussian_is_that_of_the_closed_form(gaussian):
    """Means and covariances of 5,000 draws, in units of the true deviations; and densities."""
    _, x = linear_gaussian(20, seed=3)
    draws = gaussian.sample(5000, seed=0, context=x).numpy()
    mean, covariance = closed_form(x)
    deviation = np.diag(covariance) ** 0.5
    off = (draws.mean(axis=0) - mean) / deviation
    found = np.stack([np.cov(own.T) for own in draws.swapaxes(0, 1)])
    away = (found - covariance) / np.outer(deviation, deviation)
    assert np.mean(off ** 2) ** 0.5 < 0.05 and np.mean(away ** 2) ** 0.5 < 0.05
    theta, x = linear_gaussian(5000, seed=4)
    mean, covariance = closed_form(x)
    truth = stats.multivariate_normal(cov=covariance).logpdf(theta - mean)
    assert abs(np.mean(truth - gaussian.log_prob(theta, context=x))) < 0.01


@pytest.mark.parametrize("context", [[0.0, 0.0, 0.0], [2.0, -1.0, 1.5]])
def test_linear_gaussian_integrates_to_one(gaussian, context):
    assert mass(gaussian, context, -5, 5, 401) == pytest.approx(1, abs=1e-4)


@pytest.mark.exhaustive
def test_two_moons_is_calibrated(moons):
    assert_calibrated(moons, two_moons)


@pytest.mark.exhaustive
def test_two_moons_integrates_to_one(moons):
    assert mass(moons, [0.0, 0.0], -1.25, 1.25, 701) == pytest.approx(1, abs=1e-4)
