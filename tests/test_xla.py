"""With `jit_compile=True` everything compiles, and the numbers are those of the plain functions."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import flows
from tests.registry import example, shared
from tests.test_logdet import built_branch, value_and_gradients
from tfresflow import functions, logdet
from tfresflow.batches import seeds

tfb, tfd = tfp.bijectors, tfp.distributions


def check_compiled(function, *args, rtol=1e-9):
    """Plain and compiled functions give the same; returns it."""
    want = tf.nest.flatten(tf.function(function, autograph=False)(*args))
    got = tf.nest.flatten(tf.function(function, autograph=False, jit_compile=True)(*args))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
    return want


# One of each kind of block and step: XLA holds what it has compiled until the process ends.
KINDS = ["Coupling", "Embedded", "FactorOut", "InvertibleConv1x1", "InvertibleResidual_dense",
         "InvertibleResidual_volume", "Inverted_block", "Monotone_conv", "dequantizer",
         "image_flow_factor_out", "image_flow_mixed_norms", "tabular_flow_with_supports",
         "toy_flow_dense_net"]


@pytest.mark.fast("Coupling", "FactorOut", "InvertibleConv1x1")
@pytest.mark.parametrize("name", KINDS)
def test_every_flow_compiles(name):
    """Value, log-determinant, their gradients and the inverse, with the default estimator."""
    flow, x = shared(name)
    flow = flow.with_log_det(logdet.LogDet())

    def everything(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z, log_det = flow.forward_and_log_det(x, seed=-3)
            loss = tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
        gradients = map(tf.convert_to_tensor, tape.gradient(loss, [x, *flow.trainable_variables]))
        return z, log_det, flow.inverse_alone(z), *gradients

    z, _, x_again, *_ = check_compiled(everything, x)
    np.testing.assert_allclose(x_again, x, rtol=0, atol=1e-9)
    assert np.all(np.isfinite(z))


ESTIMATORS = {
    "adaptive": logdet.LogDet(), "poisson": logdet.LogDet(logdet.Poisson()),
    "geometric": logdet.LogDet(logdet.Geometric(0.4, n_exact=1), probe=logdet.rademacher),
    "truncated": logdet.LogDet(logdet.Truncated(11), memory=logdet.Recompute(64), num_probes=2),
    "series": logdet.LogDet(logdet.Poisson(2.0, 0, num_samples=3), logdet.Series(), logdet.Tape()),
    "released": logdet.LogDet(memory=logdet.Released()),
    "exact": logdet.Exact()}


@pytest.mark.slow
@pytest.mark.parametrize("size", [
    pytest.param(1, marks=pytest.mark.exhaustive), 2,
    pytest.param(3, marks=pytest.mark.exhaustive)])
def test_every_estimator_compiles(size):
    """On the line, in the plane and beyond: values and gradients."""
    net, x = built_branch([size], hidden=4), example([size], 4)

    def everything(x):
        return [value_and_gradients(estimator, net, x, -7) for estimator in ESTIMATORS.values()]

    check_compiled(everything, x)


def test_seeds_of_every_sign_and_size():
    """XLA's own operations read the lower halves of a seed, and its normal numbers are others."""
    def everything(seed):
        part = seeds.Part(seed, tf.constant(5, tf.int64))
        return [*seeds.split(seed, 2), seeds.fold_in(seed, 2 ** 40), seeds.bits(part, [3, 5]),
                seeds.integers(seed, [4], 53), seeds.normal(part, [3, 5], tf.float64)]

    results = [check_compiled(everything, tf.constant(seed, tf.int64), rtol=1e-14)
               for seed in ([3, 4], [-3, 4], [3, -4], [3 + 2 ** 35, 4])]
    assert len({float(normal[0, 0]) for *_, normal in results}) == 4
    for dtype, rtol in ((tf.float32, 1e-5), (tf.float16, 2e-3), (tf.bfloat16, 2e-2)):
        check_compiled(lambda seed: tf.cast(
            seeds.normal(seeds.Part(seed), [3, 5], dtype), tf.float32), tf.constant([3, -4]),
            rtol=rtol)


@pytest.mark.slow
def test_a_density_without_a_seed_compiles():
    flow = flows.toy_flow(nblocks=1, dims=(4,), actnorm=False, seed=0,
                          log_det=logdet.LogDet(logdet.Poisson(2.0)))
    dist = tfd.TransformedDistribution(tfd.Sample(tfd.Normal(0.0, 1.0), [2]), tfb.Invert(flow))
    log_prob = tf.function(dist.log_prob, autograph=False, jit_compile=True)
    x = tf.ones([3, 2])
    assert np.all(np.isfinite(log_prob(x))) and np.abs(log_prob(x) - log_prob(x)).max() > 1e-4


@pytest.mark.slow
def test_unequal_cotangents_of_released_are_no_number():
    """XLA has no errors: the gradients of weights, which are one sum over the batch, are NaN."""
    net, x = built_branch([2], hidden=4), example([2], 2)
    estimator = logdet.LogDet(logdet.Truncated(2), memory=logdet.Released())
    run = tf.function(lambda c: value_and_gradients(estimator, net, x, 0, c)[1], jit_compile=True)
    for weights, finite in (([0.5, 0.5], True), ([0.5, 1.0], False)):
        _, *of_weights = run(tf.constant(weights, tf.float64))
        assert all(np.all(np.isfinite(d)) == finite for d in of_weights)


@pytest.mark.fast(but=["17"])
@pytest.mark.parametrize("size", [1, 2, 3, 17])
def test_log_abs_det_of_a_compiled_function(size):
    """Value, gradient `A^-T` and second derivative, against those of NumPy."""
    a = tf.random.stateless_normal([3, size, size], [0, size], dtype=tf.float64)
    t = tf.random.stateless_normal(a.shape, [1, size], dtype=tf.float64)

    def everything(a, t):
        with tf.GradientTape() as outer:
            outer.watch(a)
            with tf.GradientTape() as tape:
                tape.watch(a)
                value = functions.log_abs_det(a)
            d = tape.gradient(value, a)
            product = tf.reduce_sum(d * t)
        return value, d, outer.gradient(product, a)

    value, d, second = check_compiled(everything, a, t, rtol=1e-8)
    inverse = np.linalg.inv(a)
    np.testing.assert_allclose(value, np.linalg.slogdet(a)[1], rtol=0, atol=1e-10)
    np.testing.assert_allclose(d, inverse.swapaxes(1, 2), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(second, -(inverse @ t.numpy() @ inverse).swapaxes(1, 2),
                               rtol=1e-7, atol=1e-7)
