"""The estimators against the exact answer, and the strategies against each other."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tests.allocator import peaks
from tests.registry import branch, example
from tfresflow import logdet

UNBIASED = {"geometric": logdet.Geometric(0.4, n_exact=1), "poisson": logdet.Poisson(1.5, 2),
            "poisson_mean_of_3": logdet.Poisson(2.0, n_exact=0, num_samples=3)}
GRADIENTS = {"series": logdet.Series(), "neumann": logdet.Neumann()}
MEMORY = {"tape": logdet.Tape(), "released": logdet.Released(), "recompute": logdet.Recompute(),
          "auto": logdet.Auto()}
every_gradient = pytest.mark.parametrize("gradient", GRADIENTS)


def built_branch(event_shape, **kwargs):
    net = branch(event_shape, **kwargs)
    net.build((None, *event_shape))
    return net


def value_and_gradients(estimator, net, x, seed, cotangent=None, y_weight=0.0):
    """log-det `[N]`, and the gradients of `<cotangent, log_det> + y_weight |y|^2 / 2`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = estimator(net, x, seed)
        weights = tf.ones_like(log_det) if cotangent is None else cotangent
        loss = tf.reduce_sum(weights * log_det) + 0.5 * y_weight * tf.reduce_sum(y ** 2)
    sources = [x, *(v.value for v in net.trainable_variables)]
    return log_det, tape.gradient(loss, sources, unconnected_gradients="zero")


def flat(value, gradients):
    return np.concatenate([np.ravel(value), *(np.ravel(g) for g in gradients)])


def mean_of_draws(estimator, net, x, copies, draws):
    """Mean and standard error of value, dx and all parameters' derivatives, over many draws.

    Each is of `copies` of the one row x, which share a number of terms.
    """
    @tf.function
    def draw(seed):
        log_det, (dx, *rest) = value_and_gradients(
            estimator, net, tf.repeat(x, copies, axis=0), seed)
        return [tf.reduce_mean(log_det), tf.reduce_sum(dx, 0) / copies, *(r / copies for r in rest)]

    samples = []
    for i in range(draws):
        mean, *gradients = draw(tf.constant([5, i]))
        samples.append(flat(mean, gradients))
    return np.mean(samples, axis=0), np.std(samples, axis=0, ddof=1) / np.sqrt(draws)


@pytest.mark.fast("rademacher-3-geometric-neumann", "normal-2-poisson-neumann")
@every_gradient
@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("probe, size", [(logdet.normal, 2), (logdet.rademacher, 3)])
def test_unbiased_value_and_gradients(name, gradient, probe, size):
    """Means over many draws within 4 standard errors of exact: value, dx, every parameter."""
    net, x = built_branch([size], hidden=4), example([size], 1)
    value, gradients = value_and_gradients(logdet.Exact(), net, x, 0)
    exact = flat(value, gradients)
    copies, draws = 32, 500  # one number of terms a call, one probe an example
    estimator = logdet.LogDet(UNBIASED[name], GRADIENTS[gradient], logdet.Recompute(), probe)

    mean, stderr = mean_of_draws(estimator, net, x, copies, draws)
    error = mean - exact
    score = np.abs(error) / np.maximum(stderr, 1e-12)
    # The last bias has neither gradient nor spread.
    assert np.all(stderr[:-size] > 0) and np.all(error[-size:] == 0)
    assert score.max() < 4, f"{score.max():.2f} standard errors: {error} of {exact} +- {stderr}"


def test_a_biased_estimator_fails_the_same_test():
    """Five terms without their weights are seen to be biased: the test above can fail."""
    net, x = built_branch([2], coeff=0.95), example([2], 1)
    exact = logdet.Exact()(net, x)[1].numpy()
    draws = logdet.LogDet(logdet.Truncated(1))(net, tf.repeat(x, 20000, axis=0), 0)[1].numpy()
    assert abs(draws.mean() - exact) > 8 * draws.std() / np.sqrt(20000)


@pytest.mark.fast("1-1", "41-2")
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 41])
def test_truncated_is_the_partial_sum(n, size):
    """Each rule for the sum: of the line, of the plane, by products."""
    net, x = built_branch([size]), example([size], 4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = net(x)
    jacobian = tape.batch_jacobian(y, x).numpy()
    v = example([size], 4, seed=9).numpy()
    estimator = logdet.LogDet(logdet.Truncated(n), probe=lambda shape, seed, dtype: v[:, None])
    u, by_hand = v, 0.0
    for k in range(1, n + 1):
        u = np.einsum("ni,nij->nj", u, jacobian)
        by_hand = by_hand + (-1) ** (k + 1) / k * np.sum(u * v, axis=1)
    np.testing.assert_allclose(estimator(net, x)[1], by_hand, rtol=1e-12, atol=1e-14)


def test_exact_is_slogdet_of_the_jacobian():
    net, x = built_branch([2, 3, 2]), example([2, 3, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reshape(x + net(x), [-1, 12])
    jacobian = tf.reshape(tape.batch_jacobian(y, x), [-1, 12, 12])
    np.testing.assert_allclose(logdet.Exact()(net, x)[1], np.linalg.slogdet(jacobian)[1],
                               rtol=1e-12)


def strategies(gradient, net, x, cotangent, num_probes, wrap):
    coefficients = logdet.Poisson(2.0, n_exact=2)
    for memory in MEMORY.values():
        estimator = logdet.LogDet(coefficients, GRADIENTS[gradient], memory, num_probes=num_probes)
        yield wrap(lambda: value_and_gradients(estimator, net, x, 3, cotangent, y_weight=0.7))()


@pytest.mark.fast("eager-event_shape0-neumann", "eager-event_shape0-series")
@every_gradient
@pytest.mark.parametrize("event_shape", [[3], [4, 3, 2]])
@pytest.mark.parametrize("wrap, num_probes", [(tf.function, 3), (lambda f: f, 1)],
                         ids=["traced", "eager"])
def test_strategies_agree_with_equal_cotangents(gradient, event_shape, wrap, num_probes):
    net, x = built_branch(event_shape), example(event_shape, 4)
    cotangent = tf.fill([4], tf.constant(0.3, tf.float64))
    tape, *others = (flat(*result) for result in
                     strategies(gradient, net, x, cotangent, num_probes, wrap))
    assert np.abs(tape).max() > 0.01
    for other in others:
        np.testing.assert_allclose(other, tape, rtol=1e-10, atol=1e-10)


@pytest.mark.fast("eager-neumann")
@every_gradient
@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_unequal_cotangents(gradient, wrap):
    """Recompute is right for weighted examples; Released says that it is not for them."""
    net, x = built_branch([4, 3, 2]), example([4, 3, 2], 4)
    cotangent = tf.constant([0.3, -1.0, 0.0, 2.0], tf.float64)
    results = strategies(gradient, net, x, cotangent, 1, wrap)
    tape = flat(*next(results))
    with pytest.raises(tf.errors.InvalidArgumentError, match="same cotangent"):
        next(results)
    recompute = flat(*next(strategies_after(gradient, net, x, cotangent, wrap)))
    np.testing.assert_allclose(recompute, tape, rtol=1e-10, atol=1e-10)


def strategies_after(gradient, net, x, cotangent, wrap):
    estimator = logdet.LogDet(logdet.Poisson(2.0, n_exact=2), GRADIENTS[gradient],
                              logdet.Recompute())
    yield wrap(lambda: value_and_gradients(estimator, net, x, 3, cotangent, y_weight=0.7))()


@pytest.mark.fast("neumann-tape", "series-recompute", "series-released")
@pytest.mark.parametrize("gradient, memory", list(itertools.product(GRADIENTS, MEMORY)))
def test_value_is_the_true_estimate_whatever_the_gradient(gradient, memory):
    net, x = built_branch([3]), example([3])
    reference = logdet.LogDet(logdet.Truncated(4), logdet.Series(), logdet.Tape())(net, x, 1)
    other = logdet.LogDet(logdet.Truncated(4), GRADIENTS[gradient], MEMORY[memory])(net, x, 1)
    for got, want in zip(other, reference):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_seed_gives_one_number_eager_or_traced():
    net, x = built_branch([3]), example([3])
    estimator = logdet.LogDet(probe=logdet.normal)
    eager = estimator(net, x, 5)[1]
    traced = tf.function(lambda seed: estimator(net, x, seed)[1])
    np.testing.assert_allclose(traced(tf.constant(5)), eager, rtol=1e-12)
    assert np.all(estimator(net, x, 6)[1] != eager)
    assert np.all(estimator(net, x)[1] != estimator(net, x)[1])


@pytest.mark.fast("poisson")
@pytest.mark.parametrize("name", UNBIASED)
def test_weights_of_the_terms_have_mean_one(name):
    rule = UNBIASED[name]
    draw = tf.function(lambda seed: rule.draw(seed, tf.float64))
    depth, weights = 6, []
    for i in range(4000):
        c = draw(tf.constant([1, i])).numpy()[:depth]
        weights.append(np.pad(c, (0, depth - len(c))))
    mean, stderr = np.mean(weights, 0), np.std(weights, 0, ddof=1) / np.sqrt(len(weights))
    assert np.all(mean[:rule.n_exact + 1] == 1) and np.all(stderr[rule.n_exact + 2:] > 0)
    assert np.all(np.abs(mean - 1) <= 4 * stderr + 1e-12), f"{mean} +- {stderr}"


@pytest.mark.parametrize("memory, evaluations", [("tape", 1), ("released", 1), ("recompute", 2)])
def test_evaluations_of_g(memory, evaluations):
    """g runs once in a step, or twice where it is recomputed, however many terms there are."""
    count = []

    def g(x):
        count.append(1)
        return tf.sin(x) / 2

    estimator = logdet.LogDet(logdet.Truncated(7), memory=MEMORY[memory])

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y, log_det = estimator(g, x, 0)
        return tape.gradient([y, log_det], x)

    step(example([3]))
    assert len(count) == evaluations


def peak_memory(estimator, net, x):
    """Of one traced step, the smallest of several."""
    return min(peaks(tf.function(lambda: value_and_gradients(estimator, net, x, 0)[1])))


@pytest.mark.slow
@pytest.mark.allocator
@pytest.mark.parametrize("memory", MEMORY)
def test_peak_memory_against_the_number_of_terms(memory):
    """Constant for the Neumann gradient; for the differentiated series, linear in n."""
    # Dense, because the scratch space of convolutions on the CPU drowns everything else.
    net, x = built_branch([8], hidden=256), example([8], 256)
    hidden = 256 * 256 * 8  # bytes of one hidden activation
    growth, added = {}, 400  # terms, beside which a few activations by chance are nothing
    for name, gradient in GRADIENTS.items():
        few, many = (peak_memory(logdet.LogDet(logdet.Truncated(n), gradient, MEMORY[memory]),
                                 net, x) for n in (4, 4 + added))
        growth[name] = (many - few) / added / hidden
    assert abs(growth["neumann"]) < 0.05, growth
    assert growth["series"] > 0.5, growth


@pytest.mark.parametrize("make, message", [
    (lambda: logdet.Truncated(0), "`num_terms` must be at least 1, a whole number. Received: num"),
    (lambda: logdet.Geometric(1.0), r"`p` must be in \(0, 1\). Received: p=1.0"),
    (lambda: logdet.Poisson(0.0), r"`rate` must be positive. Received: rate=0.0"),
    (lambda: logdet.Poisson(n_exact=-1), r"`n_exact` must be at least 0"),
    (lambda: logdet.Truncated(2.0), r"`num_terms` must be at least 1, a whole number"),
    (lambda: logdet.Poisson(num_samples=0), r"`num_samples` must be at least 1"),
    (lambda: logdet.LogDet(num_probes=0), r"`num_probes` must be at least 1"),
    (lambda: logdet.LogDet()(branch([2]), example([2])), r"`g` must be built"),
    (lambda: logdet.LogDet()(built_branch([2]), example([2]), seed=[1, 2, 3]), r"`seed` must be"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
