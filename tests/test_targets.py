"""Targets: what is exactly known of each holds, and symmetries do."""

import itertools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from scipy import special

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


def of_loops(phi, hopping_part):
    """`sum_x hopping_part(phi, neighbours in both directions, those on the other side)`."""
    size, total = len(phi), 0.0
    for i, j in np.ndindex(size, size):
        ahead = [phi[(i + 1) % size, j], phi[i, (j + 1) % size]]
        behind = [phi[i - 1, j], phi[i, j - 1]]
        total += hopping_part(phi[i, j], ahead, behind)
    return total


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


# Others as targets ------------------------------------------------------------------------------


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


def test_what_has_no_samples_says_why():
    with pytest.raises(AttributeError, match="lam=0 only. Received: lam=6.0"):
        TARGETS["phi4"].sample(3)


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
