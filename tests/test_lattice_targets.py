"""Fields on a torus as targets: exact constants, observables, symmetries, Monte Carlo."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special

from tests.registry import example
from tests.test_targets import TARGETS, assert_zero_on_average
from tfresflow import targets

tfd = tfp.distributions


def of_loops(phi, hopping_part):
    """`sum_x hopping_part(phi, neighbours in both directions, those on the other side)`."""
    size, total = len(phi), 0.0
    for i, j in np.ndindex(size, size):
        ahead = [phi[(i + 1) % size, j], phi[i, (j + 1) % size]]
        behind = [phi[i - 1, j], phi[i, j - 1]]
        total += hopping_part(phi[i, j], ahead, behind)
    return total


def test_phi4_is_what_the_papers_have():
    """Sums over sites, by loops, in the convention of each."""
    size, m2, lam, kappa = 3, -1.3, 2.1, 0.7
    phi = example([size, size, 1], 1)
    field = phi.numpy()[0, :, :, 0]
    albergo = of_loops(field, lambda here, ahead, behind: m2 * here ** 2 + lam * here ** 4 + sum(
        2 * here ** 2 - here * a - here * b for a, b in zip(ahead, behind)))
    np.testing.assert_allclose(targets.Phi4(size, m2, lam).action(phi), [albergo], rtol=1e-13)
    nicoli = of_loops(field, lambda here, ahead, behind: (
        (m2 / 2 + 2 * kappa) * here ** 2 + lam / 24 * here ** 4 - kappa * here * sum(ahead)))
    target = targets.Phi4.of_kappa(size, m2, lam, kappa)
    np.testing.assert_allclose(target.action(phi), [nicoli], rtol=1e-13)
    assert target == targets.Phi4(size, m2 / 2, lam / 24, hopping=kappa)
    assert targets.Phi4.of_kappa(size, 2 * m2, 24 * lam, 2) == targets.Phi4(size, m2, lam)


@pytest.mark.parametrize("size", [2, 3])
def test_log_z_of_a_free_field_is_that_of_its_dense_form(size):
    target = targets.Phi4(size, m2=0.4, lam=0.0, hopping=1.2)
    zero = tf.zeros([1, size * size], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(zero)
        with tf.GradientTape() as tape:
            tape.watch(zero)
            action = target.action(tf.reshape(zero, [1, size, size, 1]))
        gradient = tape.gradient(action, zero)
    form = outer.batch_jacobian(gradient, zero)[0]
    want = size ** 2 / 2 * math.log(2 * math.pi) - np.linalg.slogdet(form)[1] / 2
    np.testing.assert_allclose(target.log_z, want, rtol=1e-12)
    x = target.sample(50_000, seed=2, dtype="float64")
    want = np.linalg.inv(form)[0].reshape(size, size)
    values = target.two_point(x)
    error = np.std(values, axis=0) / math.sqrt(50_000)
    assert (np.abs(np.mean(values, axis=0) - want) < 4 * error).all()


def test_observables_of_phi4():
    target = TARGETS["phi4"]
    x = example(target.event_shape, 2)
    field = x.numpy()[..., 0]
    want = [[np.mean(field * np.roll(field, (-i, -j), (1, 2)), (1, 2)) for j in range(4)]
            for i in range(4)]
    np.testing.assert_allclose(target.two_point(x), np.transpose(want, [2, 0, 1]), rtol=1e-12)
    np.testing.assert_allclose(target.magnetisation(x), field.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(target.action(x), -target.log_prob(x))


@pytest.mark.parametrize("name", ["phi4", "u1"])
def test_translations(name):
    target = TARGETS[name]
    x = example(target.event_shape)
    for shift in (1, 0), (0, 2), (2, 1):
        moved = tf.roll(x, shift, (1, 2))
        np.testing.assert_allclose(target.log_prob(moved), target.log_prob(x), rtol=1e-13)


def test_sign_of_phi4():
    x = example([4, 4, 1])
    np.testing.assert_array_equal(TARGETS["phi4"].log_prob(-x), TARGETS["phi4"].log_prob(x))


def transformed(x, angles):
    """A gauge transformation: `theta_mu(y) + a(y) - a(y + mu)`."""
    steps = [angles - tf.roll(angles, -1, axis) for axis in (-2, -1)]
    return x + tf.stack(steps, axis=-1)


def test_gauge_transformations_and_turns():
    target = TARGETS["u1"]
    x = 3 * example(target.event_shape)
    turned = x + 2 * math.pi * tf.round(2 * example(target.event_shape, seed=5))
    for same in (transformed(x, 3 * example([3, 3], seed=4)), turned):
        np.testing.assert_allclose(target.log_prob(same), target.log_prob(x), rtol=1e-11)
        np.testing.assert_allclose(target.topological_charge(same), target.topological_charge(x),
                                   atol=1e-10)
    charges = target.topological_charge(3 * example(target.event_shape, 200))
    np.testing.assert_allclose(charges, np.round(charges), atol=1e-10)
    assert len(set(np.round(charges))) > 2
    plaquettes = target.plaquettes(x)
    np.testing.assert_allclose(tf.reduce_sum(plaquettes, [1, 2]), 0, atol=1e-12)
    i, j = 2, 1
    want = x[:, i, j, 0] + x[:, 0, j, 1] - x[:, i, 2, 0] - x[:, i, j, 1]
    np.testing.assert_allclose(plaquettes[:, i, j], want, rtol=1e-13)


def test_log_z_of_u1_is_the_integral():
    """By the trapezoidal rule over the five links that a tree of three leaves on a 2x2 torus."""
    target, points = targets.U1(2, beta=0.9), 14
    links = np.stack(np.meshgrid(*[2 * np.pi * np.arange(points) / points] * 5, indexing="ij"), -1)
    links = links.reshape(-1, 5)
    x = np.zeros([len(links), 2, 2, 2])
    # Fixed: (0, 0) to (1, 0) by link 0; (0, 0) to (0, 1) and (1, 0) to (1, 1) by links 1.
    free = [(0, 1, 0), (1, 0, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1)]
    for column, place in zip(links.T, free):
        x[(slice(None), *place)] = column
    mean = tf.reduce_logsumexp(target.log_prob(x)) - math.log(len(links))
    np.testing.assert_allclose(mean + 8 * math.log(2 * math.pi), target.log_z, rtol=1e-11)


@pytest.mark.parametrize("size, beta", [(2, 0.0), (3, 1.0), (8, 2.0), (8, 100.0), (16, 1e5)])
def test_log_z_of_u1_is_the_sum_of_bessel_functions(size, beta):
    scaled = special.ive(np.arange(-2000, 2001), beta)
    sites = size ** 2
    largest = scaled.max()
    want = (sites * (beta + math.log(largest)) + math.log(np.sum((scaled / largest) ** sites))
            + 2 * sites * math.log(2 * math.pi))
    np.testing.assert_allclose(targets.U1(size, beta).log_z, want, rtol=1e-12)


@pytest.mark.parametrize("size, beta", [(2, 0.7), (3, 2.0), (8, 2.0), (3, 0.0)])
def test_samples_of_u1(size, beta):
    """`E[C] = (log Z)'` and `E[C^2] = Z'' / Z` of `C = sum_P cos theta_P`; links are uniform."""
    target, n, eps = targets.U1(size, beta), 4000, 1e-3
    x = target.sample(n, seed=1, dtype="float64")
    assert np.abs(x).max() <= math.pi
    np.testing.assert_array_equal(x[:5], target.sample(n, seed=1, dtype="float64")[:5])
    cosines = np.sum(np.cos(target.plaquettes(x)), (1, 2))
    charges = target.topological_charge(x)
    np.testing.assert_allclose(charges, np.round(charges), atol=1e-9)
    links = np.reshape(np.exp(1j * x.numpy()), [n, -1])
    assert (np.abs(links.mean(0)) < 4 / math.sqrt(n)).all()
    around = np.exp(1j * np.sum(x.numpy()[..., 0], 1))  # a loop around the torus
    assert (np.abs(around.mean(0)) < 4 / math.sqrt(n)).all()
    if beta == 0:
        assert_zero_on_average(cosines)
        return
    log_z = [targets.U1(size, beta + step).log_z for step in (-eps, 0, eps)]
    slope, bend = (log_z[2] - log_z[0]) / (2 * eps), (log_z[2] - 2 * log_z[1] + log_z[0]) / eps ** 2
    assert_zero_on_average(cosines - slope)
    assert_zero_on_average(cosines ** 2 - slope ** 2 - bend)


# Against Hamiltonian Monte Carlo ----------------------------------------------------------------


def hmc(target, observe, step, chains=64, burn_in=200, count=400):
    """Mean and standard error, over independent chains, of an observable `[N, ...]`."""
    kernel = tfp.mcmc.HamiltonianMonteCarlo(target.log_prob, np.float64(step), 6)
    kernel = tfp.mcmc.SimpleStepSizeAdaptation(kernel, burn_in, target_accept_prob=0.8)

    @tf.function
    def run():
        return tfp.mcmc.sample_chain(
            count, 0.5 * example(target.event_shape, chains), kernel=kernel, seed=[0, 1],
            num_burnin_steps=burn_in, trace_fn=lambda x, _: observe(x))[1]

    means = np.mean(run(), axis=0)
    return means.mean(0), means.std(0) / math.sqrt(chains)


@pytest.mark.slow
def test_phi4_by_hmc():
    """`phi^2`, and the product of neighbours, against an integral over the four sites."""
    target = targets.Phi4(2, m2=-1.5, lam=1.2)

    def observe(x):
        return target.two_point(x)[..., 0, :]

    x = np.stack(np.meshgrid(*[np.linspace(-3, 3, 41)] * 4, indexing="ij"), -1)
    x = x.reshape(-1, 2, 2, 1)
    weights = tf.nn.softmax(target.log_prob(x))
    want = np.asarray(weights) @ np.asarray(observe(x))
    mean, error = hmc(target, observe, 0.1)
    assert (error < 0.01 * want).all() and (np.abs(mean - want) < 4 * error).all()


@pytest.mark.slow
def test_u1_by_hmc():
    """`E[sum_P cos theta_P] = d log Z / d beta`; charges are as those of exact samples."""
    target, eps = targets.U1(4, beta=1.0), 1e-4
    want = (targets.U1(4, 1 + eps).log_z - targets.U1(4, 1 - eps).log_z) / (2 * eps)

    def observe(x):
        return tf.stack([target.log_prob(x), target.topological_charge(x) ** 2], axis=-1)

    mean, error = hmc(target, observe, 0.2)
    assert error[0] < 0.01 * want and abs(mean[0] - want) < 4 * error[0]
    exact = observe(target.sample(4000, seed=0, dtype="float64"))[:, 1]
    both = math.hypot(error[1], np.std(exact) / math.sqrt(4000))
    assert both < 0.05 * np.mean(exact) and abs(mean[1] - np.mean(exact)) < 4 * both
