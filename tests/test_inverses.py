"""Gradients through inverses: of a block, of samples of a flow, and in variational inference."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import branch, example
from tests.test_implicit import largest_difference
from tfresflow import layers, solvers
from tfresflow.functions import branch as functional


@pytest.mark.fast("Neumann", "FixedPoint")
@pytest.mark.parametrize("adjoint", [solvers.BiCGSTAB(), solvers.Neumann(), solvers.Normal(),
                                     solvers.FixedPoint()], ids=lambda a: type(a).__name__)
def test_the_gradient_of_a_small_loss(adjoint):
    g, z = branch([6], coeff=0.9), 3 * example([6])
    block = bijectors.InvertibleResidual(g, [6], adjoint=adjoint)

    def gradient(scale):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = scale * tf.reduce_sum(tf.sin(block.inverse_alone(z)))
        return tape.gradient(loss, z) / scale

    np.testing.assert_allclose(gradient(1e-14), gradient(1.0), rtol=0, atol=1e-9)


def test_an_adjoint_that_draws_follows_the_global_seed():
    """Traced once for all blocks, it would keep the first seed that it saw."""
    adjoint = solvers.FixedPoint(num_steps=1, start="uniform")
    block, z = bijectors.InvertibleResidual(branch([3]), [3], adjoint=adjoint), example([3])

    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(z)
            x = block.inverse_alone(z)
        return tape.gradient(x, z)

    draws = []
    for seed in (1, 1, 2):
        tf.random.set_seed(seed)
        draws.append(gradient())
    np.testing.assert_array_equal(draws[0], draws[1])
    assert np.abs(draws[0] - draws[2]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("shape", [[3], [4, 5, 2]], ids=["dense", "conv"])
@pytest.mark.parametrize("adjoint", [solvers.BiCGSTAB(), solvers.Neumann(lipschitz=0.81),
                                     solvers.Normal()], ids=lambda a: type(a).__name__)
def test_the_gradient_of_an_inverse(shape, adjoint):
    g = branch(shape, coeff=0.9)
    block = bijectors.InvertibleResidual(g, shape, adjoint=adjoint)
    z = 3 * example(shape)
    sources = [z, *(v.value for v in g.trainable_variables)]

    def gradients(inverse):
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_sum(tf.sin(inverse(z)))
        return tape.gradient(loss, sources)

    unrolled = solvers.Unrolled(250)
    want = tf.function(lambda: gradients(
        lambda z: unrolled(lambda x: z - g(x), z).value))()
    for wrap in (tf.function, lambda f: f):
        got = wrap(lambda: gradients(block.inverse))()
        assert largest_difference(got, want) < 1e-10
    # The second derivative, against differences of the first.
    direction = example(shape, seed=9)
    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            loss = tf.reduce_sum(tf.sin(block.inverse(z)))
        slope = tf.reduce_sum(inner.gradient(loss, z) * direction)
    got = tf.reduce_sum(outer.gradient(slope, z) * direction)

    def first(step):
        moved = z + step * direction
        with tf.GradientTape() as tape:
            tape.watch(moved)
            loss = tf.reduce_sum(tf.sin(block.inverse(moved)))
        return tf.reduce_sum(tape.gradient(loss, moved) * direction)

    np.testing.assert_allclose(got, (first(1e-4) - first(-1e-4)) / 2e-4, rtol=1e-5)


def test_an_adjoint_that_fails_is_an_error():
    block = bijectors.InvertibleResidual(branch([3], coeff=0.98), [3],
                                         adjoint=solvers.Neumann(max_terms=1))
    z = 3 * example([3])
    with tf.GradientTape() as tape:
        tape.watch(z)
        x = block.inverse(z)
    with pytest.raises(tf.errors.InvalidArgumentError, match="adjoint solve"):
        tape.gradient(x, z)


def test_samples_are_reparameterised():
    """`TransformedDistribution.sample` is differentiable in every weight of a flow."""
    flow = flows.toy_flow(nblocks=2, dims=(8,), seed=0, dtype="float64")
    dist = tfp.distributions.TransformedDistribution(
        tfp.distributions.MultivariateNormalDiag(tf.zeros(2, tf.float64), tf.ones(2, tf.float64)),
        tfp.bijectors.Invert(flow))
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(dist.sample(20, seed=[0, 1]) ** 2)
    gradients = tape.gradient(loss, variables)
    for v, d in zip(variables, gradients):
        assert d is not None and np.all(np.isfinite(d)) and np.any(d), v.name
    i = next(i for i, v in enumerate(variables) if "kernel" in v.name)
    v, old = variables[i], variables[i].numpy()
    moved = []
    for step in (1e-5, -1e-5):
        shift = np.zeros_like(old)
        shift.flat[0] = step
        v.assign(old + shift)
        moved.append(float(tf.reduce_mean(dist.sample(20, seed=[0, 1]) ** 2)))
    v.assign(old)
    np.testing.assert_allclose(gradients[i].numpy().flat[0], (moved[0] - moved[1]) / 2e-5,
                               rtol=1e-4, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("through", ["inverse", "forward"])
def test_variational_inference(through):
    """A surrogate posterior of a bent density: KL falls from that of the start to under a third."""
    tfd = tfp.distributions

    def target(x):
        return (tfd.Normal(0.0, 1.0).log_prob(x[..., 0])
                + tfd.Normal(x[..., 0] ** 2 / 2, 0.5).log_prob(x[..., 1]))

    # Steps of 1e-2 are large: singular values change places, which takes many products to see.
    flow = flows.toy_flow(nblocks=4, dims=(16, 16), seed=0,
                          power_iteration=layers.PowerIteration(rtol=1e-5))
    surrogate = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)),
        tfp.bijectors.Invert(flow) if through == "inverse" else flow)

    def keep_norms(traced):
        flow.update_norms()
        return traced.loss

    losses = tfp.vi.fit_surrogate_posterior(
        target, surrogate, keras.optimizers.Adam(1e-2), num_steps=120, sample_size=64,
        trace_fn=keep_norms, seed=[0, 1])
    kl = [float(tf.reduce_mean(own)) for own in (losses[:5], losses[-40:])]
    assert kl[1] < 0.4 and kl[1] < 0.3 * kl[0], kl
    for layer in functional.norm_layers(flow.layers):
        assert layer.measure_norm() < 0.92
