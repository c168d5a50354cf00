"""The log-determinant of a monotone block: unbiased, from one series, exact to the even terms."""

import numpy as np
import pytest
import tensorflow as tf

from tests.gradients import assert_close
from tests.registry import branch, example
from tests.test_engine import _Layer
from tests.test_logdet import (GRADIENTS, MEMORY, UNBIASED, built_branch, flat, mean_of_draws,
                               value_and_gradients)
from tests.test_second_derivatives import of_gradients, slope
from tests.test_steps import bound
from tfresflow import logdet, seeds
from tfresflow.functions.steps import Rows
from tfresflow.logdet.base import _Difference, odd
from tfresflow.logdet.odd import Odd

LAWS = {**UNBIASED, "adaptive": logdet.Adaptive(), "truncated": logdet.Truncated(6),
        "odd_number": logdet.Truncated(5), "bracket": logdet.Bracket(1e-10, floor=0.1)}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_exact_is_that_of_both_determinants(size):
    net, x = built_branch([size]), example([size], 4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = net(x)
    jacobian, one = tape.batch_jacobian(y, x).numpy(), np.eye(size)
    want = np.linalg.slogdet(one - jacobian)[1] - np.linalg.slogdet(one + jacobian)[1]
    assert np.abs(want).min() > 1e-3
    for estimator in (odd(logdet.Exact()), _Difference(logdet.Exact())):
        np.testing.assert_allclose(estimator(net, x)[1], want, rtol=1e-11)
    _, lower, upper = odd(logdet.Exact()).bounds(net, x)
    np.testing.assert_allclose(lower, want, rtol=1e-11)
    np.testing.assert_array_equal(lower, upper)


@pytest.mark.fast("poisson-3-neumann")
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", [*UNBIASED, "adaptive"])
def test_unbiased_value_and_gradients(name, size, gradient):
    """Means over many draws within 4 standard errors of exact: value, dx, every parameter."""
    net, x = built_branch([size], hidden=4), example([size], 1)
    exact = flat(*value_and_gradients(odd(logdet.Exact()), net, x, 0))
    copies, draws = 32, 400  # one number of terms a call, one probe an example
    estimator = odd(logdet.LogDet(LAWS[name], GRADIENTS[gradient], probe=logdet.normal))

    mean, stderr = mean_of_draws(estimator, net, x, copies, draws)
    error = mean - exact
    known = stderr < 1e-12  # `Adaptive` knows the value in the plane
    assert np.all(stderr[1:-size] > 0) and np.all(error[-size:] == 0)
    np.testing.assert_allclose(error[known], 0, atol=1e-12)
    assert np.all(np.abs(error) < 4 * stderr + 1e-12 * known), f"{error} of {exact} +- {stderr}"


def test_a_biased_estimator_fails_the_same_test():
    """Two terms of a steep branch, of which one is of odd order, are seen to be biased."""
    x, exact = tf.zeros([20000, 3], tf.float64), 3 * 2 * np.arctanh(0.6)
    biased = odd(logdet.LogDet(logdet.Truncated(2), probe=logdet.normal))
    draws = biased(lambda x: -0.6 * x, x, 0)[1].numpy()
    assert abs(draws.mean() - exact) > 8 * draws.std() / np.sqrt(20000)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", LAWS)
def test_one_series_is_the_difference_of_two(name, size):
    """From the same seed: value and all derivatives, for every way to keep and to differentiate."""
    net, x = built_branch([size], hidden=4), example([size], 4)
    cotangent = tf.fill([4], tf.constant(0.3, tf.float64))
    rtol = 1e-6 if name == "bracket" else 1e-11
    for gradient in GRADIENTS.values() if name != "bracket" else [logdet.Neumann()]:
        estimator = logdet.LogDet(LAWS[name], gradient, num_probes=2)
        want = value_and_gradients(_Difference(estimator), net, x, 3, cotangent, y_weight=0.7)
        for memory in (logdet.Tape(), logdet.Recompute()):
            one = odd(logdet.LogDet(LAWS[name], gradient, memory, num_probes=2))
            assert_close(value_and_gradients(one, net, x, 3, cotangent, 0.7), want, rtol)


@pytest.mark.parametrize("n", [2, 9])
def test_products_of_a_step(n):
    """As many as the step of a residual block takes: n for the estimate, one for the gradient."""
    layer, x = _Layer(), example([3])
    layer.build(x.shape)
    step = bound(odd(logdet.LogDet(logdet.Truncated(n))), layer, x)
    step.vjp(x, Rows(tf.range(3)), x, tf.ones_like(x[:, 0]))
    assert layer.counting.counts == {"g": 1, "vjp": n + 1}


class _Doubled(logdet.Poisson):
    def sum(self, jacobian, v, drawn):
        log_det, w = super().sum(jacobian, v, drawn)
        return 2 * log_det, [2 * u for u in w]


class _Drawn:
    """A law that is no `Law`."""

    def draw(self, seed, dtype):
        return tf.constant([1.0, 1.0, 0.5], dtype)


@pytest.mark.parametrize("size", [2, 3])
def test_laws_of_ones_own_are_obeyed(size):
    """One that overrides the sum, one that only draws, an estimator, and a function."""
    class Tripled(logdet.LogDet):
        def __call__(self, g, x, seed=None):
            y, log_det = super().__call__(g, x, seed)
            return y, 3 * log_det

    net, x = built_branch([size]), example([size], 4)
    law = logdet.Poisson(2.0, 2)
    plain = odd(logdet.LogDet(law))(net, x, 3)[1]
    doubled = odd(logdet.LogDet(_Doubled(2.0, 2)))(net, x, 3)[1]
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-11)
    for tripled in (Tripled(law), lambda g, x, seed=None: (
            g(x), 3 * logdet.LogDet(law)(g, x, seed)[1])):
        np.testing.assert_allclose(odd(tripled)(net, x, 3)[1], 3 * plain, rtol=1e-11)
    drawn = logdet.LogDet(_Drawn())
    np.testing.assert_allclose(odd(drawn)(net, x, 3)[1], _Difference(drawn)(net, x, 3)[1],
                               rtol=1e-11)


@pytest.mark.slow
def test_bounds_are_as_close_as_asked():
    net, x = built_branch([7]), example([7], 20)
    estimator = odd(logdet.LogDet(logdet.Bracket(1e-4, floor=0.1))).in_block(0.1)
    _, lower, upper = estimator.bounds(net, x, 3)
    value = estimator(net, x, 3)[1]
    exact = odd(logdet.LogDet(logdet.Bracket(1e-11, floor=0.1)))(net, x, 3)[1]
    assert np.all(lower <= exact) and np.all(exact <= upper) and np.any(upper - lower > 1e-9)
    assert np.all(np.abs(value - exact) <= 7e-4)
    assert odd(logdet.LogDet(logdet.Bracket())).in_block(0.2).coefficients == Odd(
        logdet.Bracket(5e-5, floor=0.2))


@pytest.mark.slow
@pytest.mark.parametrize("size, gradient", [(3, "neumann"), (3, "series"), (2, "neumann")])
@pytest.mark.parametrize("memory", MEMORY)
def test_the_gradient_is_differentiated(size, gradient, memory):
    net, x = built_branch([size], hidden=4), example([size], 4)
    estimator = odd(logdet.LogDet(logdet.Truncated(5), GRADIENTS[gradient], MEMORY[memory]))
    variables = [v.value for v in net.trainable_variables]
    got, want = slope(lambda x: of_gradients(estimator, net, x), [x], variables)
    assert abs(want) > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_part_of_a_batch_draws_what_the_whole_does():
    net, x = branch([3]), example([3], 5)
    net.build([None, 3])
    estimator = odd(logdet.LogDet())
    whole = estimator(net, x, 3)[1]
    part = estimator(net, x[2:], seeds.starting(3, 2))[1]
    np.testing.assert_allclose(part, whole[2:], rtol=1e-12)
