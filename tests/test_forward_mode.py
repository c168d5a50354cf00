"""Forward mode: tangents are products of the Jacobian that back-propagation finds, or an error."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.registry import branch, example, shared
from tests.test_logdet import GRADIENTS, built_branch
from tfresflow import logdet, solvers

ways = pytest.mark.parametrize("wrap", [lambda f: tf.function(f, autograph=False), lambda f: f],
                               ids=["traced", "eager"])


def tangent(function, x, direction):
    """Along `direction`, of what `function()` makes of x, a tensor or a variable."""
    with tf.autodiff.ForwardAccumulator(x, direction) as forward:
        y = function()
    return forward.jvp(y, unconnected_gradients="zero")


def product(function, x, direction):
    """The same from the whole Jacobian, row by row."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = function()
    jacobian = tape.jacobian(y, x, experimental_use_pfor=False, unconnected_gradients="zero")
    flat = tf.linalg.matvec(tf.reshape(jacobian, [-1, tf.size(x)]), tf.reshape(direction, [-1]))
    return tf.reshape(flat, y.shape)


def direction_of(x):
    return example(x.shape[1:], x.shape[0], seed=9)


def check(function, x, wrap, rtol=1e-9):
    along = direction_of(x)
    want = product(function, x, along)
    assert np.abs(want).max() > 1e-3
    got = wrap(lambda: tangent(function, x, along))()
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-10)


@pytest.mark.fast("Logit-traced", "Logit-eager")
@ways
@pytest.mark.parametrize("name", ["Logit", "InvertibleResidual_dense", "toy_flow"])
def test_flows(name, wrap):
    flow, x = shared(name, n=2)
    for output in (0, 1):
        check(lambda: flow.forward_and_log_det(x)[output], x, wrap)
        check(lambda: flow.inverse_and_log_det(x)[output], x, wrap, rtol=1e-5)


@pytest.mark.fast("3-neumann-memory0-eager")
@ways
@pytest.mark.parametrize("size, gradient, memory", [
    (3, "neumann", logdet.Tape()), (3, "series", logdet.Recompute(chunk_bytes=64)),
    (3, "neumann", logdet.Released()), (2, "neumann", logdet.Recompute())])
def test_estimates(size, gradient, memory, wrap):
    """Of the log-determinant, whatever the strategy: with respect to x and a weight."""
    net, x = built_branch([size], hidden=4), example([size], 2)
    kernel = net.trainable_variables[0].value

    def estimate(memory):
        estimator = logdet.LogDet(logdet.Truncated(5), GRADIENTS[gradient], memory)
        return lambda: estimator(net, x, 3)[1]

    for source in (x, kernel):
        along = direction_of(source)
        want = product(estimate(logdet.Tape()), source, along)
        assert np.abs(want).max() > 1e-3
        got = wrap(lambda: tangent(estimate(memory), source, along))()
        np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.fast("eager")
@ways
def test_inverse_and_samples(wrap):
    """What forward mode said of them was 0, the truth is 1.1."""
    block, z = bijectors.InvertibleResidual(branch([2]), [2]), example([2], 2)
    kernel = block.branch.trainable_variables[0].value
    check(lambda: block.inverse_alone(z), z, wrap)
    check(lambda: block.inverse_alone(z), kernel, wrap, rtol=1e-6)
    check(lambda: block.inverse(tf.identity(z)), z, wrap)


@pytest.mark.fast("Truncated-eager")
@ways
@pytest.mark.parametrize("method", [
    solvers.Implicit(), solvers.Truncated(4), solvers.Unrolled(30)], ids=lambda m: type(m).__name__)
def test_fixed_points(method, wrap):
    """Of arguments, and of a tensor and a variable in a closure."""
    x, w = example([2], 2), tf.Variable(example([2], 2, seed=3) / 4)
    start = tf.zeros_like(x)
    check(lambda: method(lambda h, x: tf.cos(h @ w + x), start, [x]).value, x, wrap)
    if isinstance(method, solvers.Implicit):
        check(lambda: method(lambda h: tf.cos(h @ w + x), start).value, x, wrap)
        check(lambda: method(lambda h: tf.cos(h @ w + x), start).value, w, wrap)


@pytest.mark.slow
@ways
@pytest.mark.parametrize("what", ["fixed point", "inverse", "estimate"])
def test_products_of_the_hessian(what, wrap):
    """Back over forward and forward over back: those of back-propagation over itself."""
    block, x = bijectors.InvertibleResidual(
        branch([3]), [3], logdet.LogDet(logdet.Truncated(4), logdet.Series())), example([3], 2)
    w = tf.Variable(example([3], 3, seed=3) / 4)
    along = direction_of(x)
    function = {
        "fixed point": lambda: solvers.Implicit()(lambda h: tf.cos(h @ w + x), x).value,
        "inverse": lambda: block.inverse_alone(x),
        "estimate": lambda: 10 * block.forward_and_log_det(x, seed=0)[1]}[what]

    def loss():
        return tf.reduce_sum(function() ** 3)

    def gradient(function):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function()
        return tape.gradient(y, x)

    want = gradient(lambda: tf.reduce_sum(gradient(loss) * along))
    assert np.abs(want).max() > 1e-3
    np.testing.assert_allclose(wrap(lambda: gradient(lambda: tangent(loss, x, along)))(), want,
                               rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(wrap(lambda: tangent(lambda: gradient(loss), x, along))(), want,
                               rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("what", ["fixed point", "inverse", "estimate"])
def test_around_a_graph_it_says_where_to_open_it(what):
    block = bijectors.InvertibleResidual(branch([3]), [3], logdet.LogDet(logdet.Truncated(3)))
    x = example([3], 2)
    function = tf.function({
        "fixed point": lambda x: solvers.Implicit()(lambda h: tf.cos(h / 2 + x), x).value,
        "inverse": block.inverse_alone,
        "estimate": lambda x: block.forward_and_log_det(x, seed=0)[1]}[what], autograph=False)
    function(x)
    with pytest.raises((ValueError, LookupError), match="opened inside of a `tf.function`"):
        tangent(lambda: function(x), x, tf.ones_like(x))


def test_one_in_another_is_refused():
    block, x = bijectors.InvertibleResidual(branch([3]), [3]), example([3], 2)
    with pytest.raises(ValueError, match="must not be nested"):
        tangent(lambda: tangent(lambda: block.inverse_alone(x), x, tf.ones_like(x)), x,
                tf.ones_like(x))
