"""Bounds of the log-determinant: they hold, they close in fast, and their gradient is right."""

import bisect

import numpy as np
import pytest
import tensorflow as tf

from tests.registry import NOISY, REGISTRY, branch, example, shared
from tests.test_adaptive import HARD
from tfresflow import logdet, seeds
from tfresflow.functions.steps import Rows, bind

RNG = np.random.default_rng(1)


def of_matrices(matrices):
    """g of x `[N, D]`, a matrix for each example: J of `x -> matrix x`."""
    matrices = tf.constant(matrices)
    return lambda x: tf.linalg.matvec(matrices, x)


def truth(matrices, v):
    """`v^T log((I + J)^T (I + J)) v / 2` of each example."""
    plus = np.eye(v.shape[-1]) + matrices
    values, vectors = np.linalg.eigh(np.swapaxes(plus, -1, -2) @ plus)
    return 0.5 * np.sum(np.log(values) * np.einsum("nij,ni->nj", vectors, v) ** 2, axis=1)


def probes_of(estimate, x, seed):
    return estimate.draw_probes(x, seeds.as_seed(seed), tf.constant(0, tf.int64))[0].numpy()


def random_matrices(count, size):
    """Of norms up to 0.99: some symmetric, some far from normal, some of low rank."""
    matrices = RNG.normal(size=(count, size, size))
    matrices[::4] += np.swapaxes(matrices[::4], 1, 2)
    matrices[1::4] = np.triu(matrices[1::4])
    matrices[2::4] = matrices[2::4, :, :2] @ matrices[2::4, :2, :]
    norms = np.linalg.norm(matrices, 2, axis=(1, 2))
    return matrices * (RNG.uniform(0.05, 0.99, count) / norms)[:, None, None]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("size", [3, 13])
def test_bounds_hold(size, steps):
    """In 500 random cases, after any number of steps."""
    matrices, x = random_matrices(500, size), tf.zeros([500, size], tf.float64)
    estimate = logdet.LogDet(logdet.Bracket(1e-9, steps, floor=0.01), probe=logdet.normal)
    _, lower, upper = estimate.bounds(of_matrices(matrices), x, seed=steps)
    exact = truth(matrices, probes_of(estimate, x, steps))
    rounding = 1e-12  # of `truth`
    assert np.all(lower <= exact + rounding) and np.all(exact <= upper + rounding)
    assert np.isfinite(lower).all() and np.isfinite(upper).all()
    widths = (upper - lower) / size
    assert np.all(widths < 2e-9) == (steps >= size), np.max(widths)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_planted_blocks(name, dtype):
    """The mean over all probes is the log-determinant: it lies between the bounds."""
    size = 64
    matrix = HARD[name][0](size)
    x = tf.zeros([size, size], dtype)
    estimate = logdet.LogDet(
        logdet.Bracket(tol=4e-4, max_steps=64, floor=0.005),
        probe=lambda shape, seed, dtype: tf.sqrt(1.0 * tf.eye(size, dtype=dtype) * size)[:, None])
    _, lower, upper = estimate.bounds(of_matrices(matrix.astype(dtype)), x, seed=0)
    exact = np.linalg.slogdet(np.eye(size) + matrix)[1]
    rounding = 1e-13 * abs(exact)  # of `exact`
    assert np.mean(lower) - rounding <= exact <= np.mean(upper) + rounding
    assert np.mean(upper - lower) <= 1e-3 * size


def products(matrix, tol):
    """Products with J until v^T log(I + J) v is known to `tol`: by bounds, and by the series."""
    size = len(matrix)
    x = tf.zeros([1, size], tf.float64)

    def width(steps):
        estimate = logdet.LogDet(logdet.Bracket(1e-12, steps, floor=0.01), probe=logdet.rademacher)
        _, lower, upper = estimate.bounds(of_matrices(matrix[None]), x, seed=0)
        return upper[0] - lower[0]

    steps = 1 + bisect.bisect_left(range(1, size + 1), True,
                                   key=lambda steps: bool(width(steps) <= 2 * tol * size))
    v = probes_of(logdet.LogDet(probe=logdet.rademacher), x, 0)[0]
    exact, u, total, k = truth(matrix[None], v[None])[0], v, 0.0, 0
    while abs(total - exact) > tol * size:
        u, k = matrix @ u, k + 1
        total += (-1) ** (k + 1) / k * u @ v
    return 2 * steps, k


@pytest.mark.slow
@pytest.mark.parametrize("name, most", [("-0.99 I", 0.01), ("symmetric negative", 0.6)])
def test_bounds_close_in_as_conjugate_gradients_do(name, most):
    ours, of_series = products(HARD[name][0](64), 1e-6)
    assert ours <= most * of_series, (ours, of_series)


def test_gradient_is_that_of_the_solution():
    estimate = logdet.LogDet(logdet.Bracket(1e-12, floor=0.01))
    net = branch([7])
    net.build([None, 7])
    x, cotangent = example([7], 6), example([], 6, seed=4)

    def gradients(estimate, order):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(cotangent * estimate(net, x, 3)[1])
            first = tape.gradient(loss, [x, *(w.value for w in net.trainable_variables)],
                                  unconnected_gradients="zero")
            twice = tf.reduce_sum(first[0] ** 2)
        return first if order == 1 else [outer.gradient(twice, x)]

    series = logdet.LogDet(logdet.Truncated(200))
    for order in (1, 2):
        for one, other in zip(gradients(estimate, order), gradients(series, order)):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_compiled_it_is_the_same():
    net, x = branch([7]), example([7], 6)
    net.build([None, 7])
    estimate = logdet.LogDet(logdet.Bracket(1e-6, floor=0.01))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_det = estimate(net, x, 3)[1]
        return estimate.bounds(net, x, 3), log_det, tape.gradient(log_det, x)

    (_, lower, upper), value, gradient = tf.function(run, autograph=False)(x)
    (_, low, high), compiled, other = tf.function(run, autograph=False, jit_compile=True)(x)
    assert np.all(low <= upper) and np.all(lower <= high) and np.all(high - low < 1e-4)
    np.testing.assert_allclose(compiled, value, atol=1e-5)
    np.testing.assert_allclose(other, gradient, atol=1e-5)


def test_a_floor_that_is_contradicted_bounds_nothing():
    x = tf.zeros([1, 3], tf.float64)
    _, lower, upper = logdet.LogDet(logdet.Bracket(floor=0.5)).bounds(lambda x: -0.9 * x, x, 0)
    assert upper[0] - lower[0] < 1e-12  # all is known after one step
    slopes = tf.constant([-0.9, 0.1, 0.3], tf.float64)
    floor = logdet.LogDet(logdet.Bracket(floor=0.5, max_steps=2))
    assert floor.bounds(lambda x: slopes * x, x, 0)[1][0] == -np.inf


@pytest.mark.parametrize("make, said", [
    (lambda: logdet.Bracket(tol=0), "`tol` must be positive"),
    (lambda: logdet.Bracket(floor=-1), "`floor` must be positive"),
    (lambda: logdet.Bracket(max_steps=0), "`max_steps` must be"),
    (lambda: logdet.LogDet(logdet.Bracket(), logdet.Series()), "`gradient` must be `Neumann"),
    (lambda: logdet.LogDet(logdet.Bracket())(lambda x: x / 2, tf.ones([1, 3])),
     "`floor` must be given")])
def test_what_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_block_changes_only_what_asks_for_its_floor():
    """Others may be subclasses that hold more than their fields."""
    for law in (logdet.Adaptive(), logdet.Poisson(), logdet.Bracket(floor=0.5)):
        estimate = logdet.LogDet(law)
        assert estimate.in_block(0.1) is estimate
    assert logdet.LogDet(logdet.Bracket()).in_block(0.1).coefficients.floor == 0.1


class UnitVectors(logdet.LogDet):
    """One after the other, as the probes of a batch: the mean over D equal rows is the trace."""

    def draw_probes(self, x, seed, first):
        size = x.shape[1:].num_elements()
        basis = tf.reshape(np.sqrt(size) * tf.eye(size, dtype=x.dtype), [size, *x.shape[1:]])
        return [tf.tile(basis, [x.shape[0] // size] + [1] * (x.shape.rank - 1))]


@pytest.mark.fast("InvertibleResidual_dense", "FactorOut")
@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in NOISY])
def test_law_bounds_hold_the_log_determinant(name):
    """Of every flow: with all unit vectors for probes, the exact value is between the bounds."""
    flow, x = shared(name)
    exact = flow.forward_and_log_det(x)[1]
    size = int(np.prod(flow.event_shape))  # a multiple of that of each block
    rows = tf.repeat(x, size, axis=0)
    bound = bind(flow.with_log_det(UnitVectors(logdet.Bracket(1e-7))), seeds.as_seed(0),
                 len(rows), x.dtype)
    _, lowers, uppers = bound.bounds(rows, Rows(tf.range(len(rows))))
    lowers, uppers = (np.reshape(t, [len(x), size]).mean(axis=1) for t in (lowers, uppers))
    assert np.all(lowers <= exact + 1e-9) and np.all(exact <= uppers + 1e-9)
    assert np.all(uppers - lowers < 1e-4)
