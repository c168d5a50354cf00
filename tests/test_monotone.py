"""Monotone blocks: slopes, the shared checks, failures, memory, derivatives of derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import bijectors
from bijectors import flows
from tests.allocator import peaks
from tests.registry import IMPLICIT, branch, example
from tests.test_second_derivatives import slope
from tfresflow import FlowModel, autodiff, layers, logdet, solvers
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.functions.steps import Rows


def steep(event_shape, coeff=0.9, sign=1.0, **kwargs):
    """A block whose g has slopes of `sign coeff` at 0."""
    kernel = keras.initializers.Identity(sign)
    size = event_shape[-1]
    g = keras.Sequential([
        layers.InducedNormDense(size, coeff, kernel_initializer=kernel, dtype="float64"),
        layers.Sin(dtype="float64")])
    return bijectors.Monotone(g, event_shape, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_slopes_are_those_of_the_cayley_operator(sign):
    """Between (1 - L) / (1 + L) and its inverse, and both are reached."""
    x, low = tf.concat([example([3], 50), tf.zeros([1, 3], tf.float64)], 0), 0.1 / 1.9
    with tf.GradientTape() as tape:
        tape.watch(x)
        z = steep([3], sign=sign).forward(x)
    values = np.linalg.svd(tape.batch_jacobian(z, x), compute_uv=False)
    assert low - 1e-9 <= values.min() and values.max() <= 1 / low + 1e-9
    np.testing.assert_allclose(values[-1], low ** sign, rtol=1e-9)


def test_the_inverse_is_the_block_of_the_negated_branch():
    kernel, x = example([3], 3, seed=5) / 4, example([3])

    def block(sign):
        return bijectors.Monotone(layers.InducedNormDense(
            3, 0.9, kernel_initializer=lambda *_, **__: sign * kernel, dtype="float64"), [3])

    np.testing.assert_allclose(block(-1.0).forward(block(1.0).forward(x)), x, atol=1e-10)


@pytest.mark.parametrize("make, message", [
    (lambda: bijectors.Monotone(layers.InducedNormDense(3), [2]),
     "`branch` must keep the shape"),
    (lambda: bijectors.Monotone(layers.ReLU(), [2]),
     "`branch` must have a Lipschitz constant below 1. Received: 1.0"),
    (lambda: bijectors.Monotone(abs, [2]), "`branch` must be a Keras layer"),
    (lambda: bijectors.Monotone(branch([2]), [2], log_det=3), r"`log_det` must be `LogDet\(...\)"),
    (lambda: bijectors.Monotone(branch([2]), [2], solver=3), "`solver` must be a fixed-point"),
    (lambda: bijectors.Monotone(branch([2]), [2], adjoint=3), "`adjoint` must be a linear")])
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_solves_that_fail_are_errors():
    """Of the forward pass, the inverse and the gradient, of a tape and of a step."""
    x = 3 * example([3])
    short = steep([3], solver=solvers.Picard(max_steps=3))
    for call in (short.forward, tf.function(short.forward), lambda x: short.bind(3).value(
            x, Rows(tf.range(3)))):
        with pytest.raises(tf.errors.InvalidArgumentError,
                           match="The forward pass of monotone did not converge"):
            call(x)
    with pytest.raises(tf.errors.InvalidArgumentError,
                       match="The inverse of monotone did not converge"):
        short.inverse(x)
    assert not np.any(short.solve(x).converged)
    few = steep([3], adjoint=solvers.BiCGSTAB(max_steps=1), log_det=logdet.Exact())
    with pytest.raises(tf.errors.InvalidArgumentError, match="adjoint solve"):
        few.bind(3).vjp(x, Rows(tf.range(3)), x, tf.ones_like(x[:, 0]))


def test_derivatives_of_ordinary_tapes():
    """First and second, of z and the log-determinant, with respect to x and the weights."""
    block = bijectors.Monotone(branch([3], hidden=4), [3], logdet.LogDet(logdet.Truncated(5)))
    variables = [v.value for v in block.branch.trainable_variables]

    def total(x):
        z, log_det = block.forward_and_log_det(x, seed=3)
        return tf.reduce_sum(tf.sin(3 * z)) + tf.reduce_sum(z[:, 0] ** 2)

    got, want = slope(total, [example([3], 3)], variables)
    assert abs(want) > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.slow
def test_second_derivatives():
    """Of exact log-determinants: the differences are those of the first."""
    block = bijectors.Monotone(branch([2], hidden=4), [2], logdet.Exact())
    variables = [v.value for v in block.branch.trainable_variables]

    def first(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z, log_det = block.forward_and_log_det(x)
            loss = tf.reduce_sum(log_det) + tf.reduce_sum(z ** 2)
        gradients = tape.gradient(loss, [x, *variables], unconnected_gradients="zero")
        return tf.add_n([tf.reduce_sum(tf.sin(d)) for d in gradients])

    got, want = slope(first, [example([2], 3)], variables)
    assert abs(want) > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("block", [bijectors.Monotone, IMPLICIT], ids=["monotone", "implicit"])
def test_a_flow_of_them_is_trained_and_certified(block):
    """The likelihood rises, norms follow their weights, and samples come back."""
    flow = flows.toy_flow(nblocks=2, dims=(16,), act=layers.Sin, block=block, seed=0)
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(0.02))
    x = tf.random.stateless_normal([256, 2], [0, 1])
    x = tf.stack([x[:, 0], x[:, 0] ** 2 - 1 + 0.2 * x[:, 1]], axis=1)
    losses = model.fit(x, batch_size=64, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0] - 0.3, losses
    report = bijectors.norm_report(flow)
    assert report.certified and len(report.blocks) == 2 and len(report.layers) == 4
    z = tf.random.stateless_normal([50, 2], [0, 2])
    np.testing.assert_allclose(flow.forward(tf.identity(flow.inverse(z))), z, atol=1e-3)


def test_heavy_tails_look_at_each_block_once():
    g = layers.InducedNormDense(8, 0.98, kernel_initializer=keras.initializers.Identity(-0.96))
    found = [bijectors.heavy_tails(kind(g, [8], name="steep"), tf.zeros([4, 8]), logdet.Poisson())
             for kind in (bijectors.InvertibleResidual, bijectors.Monotone)]
    assert list(found[0]) == ["steep"] and found[0] == found[1]


@pytest.mark.exhaustive
@pytest.mark.allocator
def test_what_is_kept_between_the_passes():
    """Of each block one tensor of the size of x, whatever the strategy."""
    x = tf.cast(example([64], 4096), tf.float32)
    peak, ways = {}, (autodiff.Recomputed(), autodiff.Stored())
    for i, way in enumerate(ways):
        for depth in (2, 14):
            flow = flows.tabular_flow(
                [64], nblocks=depth, dims=(8,), actnorm=False, block=bijectors.Monotone,
                log_det=logdet.LogDet(logdet.Truncated(3), logdet.Series()), seed=0)
            model = FlowModel(flow, autodiff=way)
            step = tf.function(lambda: model._sums(x, tf.ones([4096]), Part(as_seed(0)))[1],
                               autograph=False)
            peak[i, depth] = min(peaks(step))
    for i in range(len(ways)):
        growth = (peak[i, 14] - peak[i, 2]) / 12 / (x.shape.num_elements() * 4)
        assert 0.7 < growth < 1.3, growth
