"""The law whose number of terms follows from the terms, where other laws fail: steep blocks."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfresflow import logdet

RNG = np.random.default_rng(0)


def of_norm(size, norm):
    matrix = RNG.normal(size=(size, size))
    return matrix * norm / np.linalg.norm(matrix, 2)


def negative(size, norm):
    basis = np.linalg.qr(RNG.normal(size=(size, size)))[0]
    return -(basis * RNG.uniform(0, norm, size)) @ basis.T


# J, and whether each probe of signs gives the trace of all its powers.
HARD = {"-0.96 I": (lambda n: -0.96 * np.eye(n), True),
        "-0.99 I": (lambda n: -0.99 * np.eye(n), True),
        "0.96 I": (lambda n: 0.96 * np.eye(n), True),
        "random": (lambda n: of_norm(n, 0.9), False),
        "symmetric negative": (lambda n: negative(n, 0.97), False)}


def draws_of(law, matrix, signs, count=4000):
    """Values `[count]` and gradients `[count, D, D]` of as many draws, without noise of probes."""
    size, values, gradients = len(matrix), [], []
    probes = np.ones([1, size]) if signs else np.sqrt(size) * np.eye(size)
    jacobian = types.SimpleNamespace(matrix=None, vjp=lambda u: u @ matrix)

    @tf.function
    def run(v, drawn):
        log_det, [w] = law.sum(jacobian, [v], drawn)
        return log_det, w

    parts = max(1, count * size ** 2 // 2 ** 19)
    for part in np.array_split(RNG.integers(0, 2 ** 53, count), parts):
        v = np.tile(probes, [len(part), 1])
        log_det, w = run(tf.constant(v), tf.constant(np.repeat(part, len(probes))))
        values.append(tf.reduce_mean(tf.reshape(log_det, [len(part), -1]), axis=1))
        # d log_det = <w v^T, dJ>, J acting on rows from the right.
        outer = v[:, :, None] * w.numpy()[:, None, :]
        gradients.append(outer.reshape(len(part), -1, size, size).mean(axis=1).transpose(0, 2, 1))
    return np.concatenate(values), np.concatenate(gradients)


@pytest.mark.fast(*(f"{name}-8" for name in HARD))
@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("name", HARD)
def test_planted_blocks(name, size):
    """4,000 draws: within 4 standard errors, and 0.05 nats, of the log-determinant."""
    make, signs = HARD[name]
    matrix = make(size)
    exact = np.linalg.slogdet(np.eye(size) + matrix)[1]
    values, gradients = draws_of(logdet.LogDet().coefficients, matrix, signs)
    error, stderr = values.mean() - exact, values.std(ddof=1) / np.sqrt(len(values))
    assert stderr > 0 and abs(error) < min(4 * stderr, 0.05), f"{error} +- {stderr} of {exact}"

    inverse = np.linalg.inv(np.eye(size) + matrix).T
    for direction in (inverse, RNG.normal(size=inverse.shape)):
        if signs:  # off the diagonal, a probe of signs has noise
            direction = np.diag(np.diag(direction))
        along = (gradients * direction).sum(axis=(1, 2))
        error = along.mean() - (inverse * direction).sum()
        stderr = along.std(ddof=1) / np.sqrt(len(along))
        assert stderr > 0 and abs(error) < 4 * stderr, f"{error} +- {stderr}"


def test_the_laws_of_the_paper_fail_there():
    """The same test sees that 4,000 draws of Poisson's law are nats off."""
    matrix = -0.96 * np.eye(8)
    jacobian = types.SimpleNamespace(matrix=None, vjp=lambda u: u @ matrix)
    law, v = logdet.Poisson(), tf.ones([1, 8], tf.float64)

    @tf.function
    def run(seed):
        return law.sum(jacobian, [v], law.draw(seed, tf.float64))[0][0]

    values = [run(tf.constant([3, i])).numpy() for i in range(4000)]
    assert abs(np.mean(values) - np.linalg.slogdet(np.eye(8) + matrix)[1]) > 0.5


def test_no_draw_is_far_off():
    """The longest sum that can be drawn, of probability 2^-53."""
    matrix = -0.99 * np.eye(8)
    jacobian = types.SimpleNamespace(matrix=None, vjp=lambda u: u @ matrix)
    exact, v = np.linalg.slogdet(np.eye(8) + matrix)[1], [tf.ones([1, 8], tf.float64)]
    run = tf.function(lambda drawn: logdet.Adaptive().sum(jacobian, v, drawn)[0])
    for drawn in (0, 2 ** 53 - 1):
        assert abs(run(tf.constant(drawn, tf.int64))[0] - exact) < 2
    poisson = logdet.Poisson()
    longest = 2.0 ** 53 / poisson._bounds
    assert abs(poisson.sum(jacobian, v, tf.constant(longest))[0][0]) > 1e6


def test_each_example_has_a_number_of_its_own():
    """What is drawn for an example does not depend on those beside it."""
    slopes = tf.constant([0.1, -0.9, 0.5], tf.float64)[:, tf.newaxis]
    estimate = logdet.LogDet(logdet.Adaptive(0.1), memory=logdet.Tape())
    together = estimate(lambda x: slopes * x, tf.ones([3, 4], tf.float64), seed=5)[1]
    beside = tf.constant([0.1, -0.2, 0.0], tf.float64)[:, tf.newaxis]
    alone = estimate(lambda x: beside * x, tf.ones([3, 4], tf.float64), seed=5)[1]
    assert together[0] == alone[0] and together[1] != alone[1]


@pytest.mark.parametrize("size", [1, 2])
def test_exact_on_the_line_and_in_the_plane(size):
    matrix = tf.constant(of_norm(size, 0.97))
    x = tf.zeros([4, size], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(matrix)
        J = tf.identity(matrix)
        log_det = logdet.Adaptive().sum(types.SimpleNamespace(
            matrix=[[tf.repeat(J[j, i], 4) for i in range(size)] for j in range(size)]),
            [tf.ones_like(x)], None)[0]
    exact = np.linalg.slogdet(np.eye(size) + matrix)[1]
    np.testing.assert_allclose(log_det, np.full(4, exact), rtol=1e-12)
    np.testing.assert_allclose(tape.gradient(log_det, matrix) / 4,
                               np.linalg.inv(np.eye(size) + matrix).T, rtol=1e-11)


@pytest.mark.parametrize("slope", [2.0, np.nan])
def test_what_is_no_contraction_ends_and_is_seen(slope):
    estimate = tf.function(logdet.LogDet(logdet.Adaptive()), autograph=False)
    assert not np.isfinite(estimate(lambda x: -slope * x, tf.ones([2, 3]), seed=0)[1]).any()


@pytest.mark.parametrize("value", [0, 1, -0.5, "a", None])
def test_threshold_is_checked(value):
    with pytest.raises(ValueError, match="`threshold` must be in"):
        logdet.Adaptive(value)
