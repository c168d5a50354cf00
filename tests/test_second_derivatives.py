"""Derivatives of gradients through log-determinants: Hessians, score matching, and beyond."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import branch, example
from tests.test_logdet import GRADIENTS, built_branch
from tfresflow import logdet
from tfresflow.functions import upkeep

MEMORY = {"tape": logdet.Tape(), "released": logdet.Released(),
          "chunks": logdet.Recompute(chunk_bytes=64), "auto": logdet.Auto()}


def slope(function, tensors, variables):
    """The derivative of a number along one direction of tensors and variables: twice.

    By back-propagation, and by differences.
    """
    sources = [*tensors, *variables]
    along = [example(t.shape, 1, seed=20 + i)[0] for i, t in enumerate(sources)]

    @tf.function(autograph=False)
    def exact(*tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            y = function(*tensors)
        gradients = tape.gradient(y, [*tensors, *variables], unconnected_gradients="zero")
        return tf.add_n([tf.reduce_sum(d * a) for d, a in zip(gradients, along)])

    with upkeep.kept():  # derivatives take singular vectors for constants
        traced = tf.function(function, autograph=False).get_concrete_function(*tensors)
    moved = []
    kept = [tf.identity(v) for v in variables]
    for step in (1e-5, -1e-5):
        for v, old, a in zip(variables, kept, along[len(tensors):]):
            v.assign(old + step * a)
        moved.append(float(traced(*(t + step * a for t, a in zip(tensors, along)))))
    for v, old in zip(variables, kept):
        v.assign(old)
    return float(exact(*tensors)), (moved[0] - moved[1]) / 2e-5


def of_gradients(estimator, net, x):
    """A number made of all first-order gradients of `sum(log_det) + 0.3 |g(x)|^2`."""
    sources = [x, *(v.value for v in net.trainable_variables)]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y, log_det = estimator(net, x, 3)
        loss = tf.reduce_sum(log_det) + 0.3 * tf.reduce_sum(y ** 2)
    gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    return tf.add_n([tf.reduce_sum(tf.sin(3 * d)) for d in gradients])


@pytest.mark.slow
@pytest.mark.parametrize("shape, gradient, memory", [
    *(([3], "neumann", memory) for memory in MEMORY), ([3], "series", "chunks"),
    ([1], "neumann", "chunks"), ([2], "neumann", "chunks"), ([2], "series", "released"),
    ([2], "neumann", "tape"), ([3, 4, 2], "neumann", "chunks")])
def test_the_gradient_is_differentiated(shape, gradient, memory):
    """As differences say, w of the Neumann gradient among what moves, whatever the strategy."""
    net, x = built_branch(shape, hidden=4), example(shape, 4)
    estimator = logdet.LogDet(logdet.Truncated(5), GRADIENTS[gradient], MEMORY[memory])
    variables = [v.value for v in net.trainable_variables]
    got, want = slope(lambda x: of_gradients(estimator, net, x), [x], variables)
    assert abs(want) > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.slow
def test_the_third_derivative():
    net, x = built_branch([3], hidden=4), example([3], 2)
    estimator = logdet.LogDet(logdet.Truncated(3), memory=logdet.Recompute())

    def curvature(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = of_gradients(estimator, net, x)
        return tf.reduce_sum(tape.gradient(total, x) ** 2)

    got, want = slope(curvature, [x], [v.value for v in net.trainable_variables])
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.fast("3")
@pytest.mark.parametrize("n", [3, 300])
def test_score_matching_on_the_line(n):
    """Signs of one entry give exact traces: second derivatives are those of the exact density."""
    x, results = example([1], n), []
    for estimator in (logdet.LogDet(logdet.Truncated(40), probe=logdet.rademacher),
                      logdet.Exact()):
        flow = flows.toy_flow([1], nblocks=2, dims=(6,), coeff=0.7, seed=0, log_det=estimator,
                              dtype="float64")
        base = tfp.distributions.Sample(tfp.distributions.Normal(tf.zeros([], x.dtype), 1), [1])
        dist = tfp.distributions.TransformedDistribution(base, tfp.bijectors.Invert(flow))
        variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
        with tf.GradientTape() as tape:
            with tf.GradientTape() as inner:
                inner.watch(x)
                log_prob = dist.log_prob(x)
            loss = tf.reduce_mean(inner.gradient(log_prob, x) ** 2)
        results.append(tape.gradient(loss, variables, unconnected_gradients="zero"))
    assert max(np.abs(d).max() for d in results[1]) > 0.01
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)


@pytest.mark.slow
def test_through_the_inverse():
    """The log-determinant of the inverse, and what is sampled, differentiated twice."""
    estimator = logdet.LogDet(logdet.Truncated(5))
    block = bijectors.InvertibleResidual(branch([2], hidden=4), [2], estimator)
    variables = [v.value for v in block.branch.trainable_variables]

    def first(z):
        with tf.GradientTape() as tape:
            tape.watch(z)
            x, log_det = block.inverse_and_log_det(z, seed=3)
            loss = tf.reduce_sum(log_det) + tf.reduce_sum(x ** 2)
        gradients = tape.gradient(loss, [z, *variables], unconnected_gradients="zero")
        return tf.add_n([tf.reduce_sum(tf.sin(d)) for d in gradients])

    got, want = slope(first, [example([2], 3)], variables)
    np.testing.assert_allclose(got, want, rtol=1e-5)
