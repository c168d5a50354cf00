"""Noise within levels as a part of the model: what it bounds, and that its gradient is whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import ActNorm, Chain, Dequantize, Logit, flows
from bijectors.dequantize import in_bins
from tests.gradients import WAYS, OfATape, assert_equal, by_tape, loss_of, traced
from tests.registry import EXACT, between_levels, conditional, dequantizer, double, image, moved
from tfresflow import FlowModel, autodiff, logdet, optimizers, seeds
from tfresflow.batches import threads
from tfresflow.functions import upkeep
from tfresflow.functions.steps import Rows

tfb = tfp.bijectors
SHAPE = (4, 4, 1)


def levels(n, shape=SHAPE, nbits=2, seed=1):
    draws = tf.random.stateless_uniform([n, *shape], [seed, 0], dtype=tf.float64)
    return tf.floor(2 ** nbits * draws)


def bound_of_images(rule=None, **kwargs):
    """An image flow behind learned noise, both small and not at their start."""
    settings = {"log_det": rule or logdet.Exact(), **kwargs}
    pixels = image(nblocks=(1,), fc_end=False, **settings)
    return Chain([moved(pixels), dequantizer(**settings)])


def bound_of_pairs():
    """The same of two entries, without convolutions."""
    return Chain([ActNorm([2], dtype="float64"), Logit([2]), between_levels()])


def line(noise=None):
    """`(model, exact log P of its four levels)`: the flow rises, so P is a difference of CDFs."""
    pixels = Chain([moved(flows.tabular_flow([1], nblocks=1, dims=(6,), **EXACT)),
                    Logit([1], alpha=0.05)])
    model = FlowModel(Chain([pixels, Dequantize(noise, [1], nbits=2)]))
    edges = pixels.forward(double(np.linspace(0, 1, 5)[:, None]))[:, 0]
    return model, np.log(np.diff(tfp.distributions.Normal(double(0.0), 1.0).cdf(edges)))


def noise_of_a_number():
    """A conditional flow of one number in (0, 1)."""
    inner = flows.tabular_flow([1], nblocks=1, dims=(6,), context_shape=1, **EXACT)
    return Chain([tfb.Sigmoid(), moved(inner), tfb.Invert(tfb.Sigmoid())], [1])


def test_the_identity_is_uniform_noise():
    """The same numbers as without a flow of noise, and in the same range."""
    x, uniform = levels(5), Dequantize(None, SHAPE, nbits=2)
    learned = flows.dequantizer(SHAPE, nbits=2, nblocks=0, features=3, dtype="float64", seed=0)
    want, log_det = uniform.forward_and_log_det(x, seed=3)
    np.testing.assert_allclose(log_det, -16 * 2 * np.log(2))
    got, own = learned.forward_and_log_det(x, seed=3)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(own, log_det, rtol=1e-10)
    moved(learned)
    assert np.abs(learned.forward_and_log_det(x, seed=3)[0] - want).max() > 0.01


def test_noise_is_uniform():
    x = levels(2000)
    u = 4 * Dequantize(None, SHAPE, nbits=2).forward(x, seed=0) - x
    counts, _ = np.histogram(u, 20, (0, 1))
    spread = np.sqrt(u.shape.num_elements() / 20)
    assert counts.sum() == u.shape.num_elements() and np.abs(
        counts - counts.mean()).max() < 4 * spread
    assert abs(np.corrcoef(np.reshape(u, [2000, 16]).T)[0, 1:]).max() < 4 / np.sqrt(2000)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nbits", [1, 8])
def test_levels_keep_to_their_bins(nbits, dtype):
    """Also where a sigmoid was rounded to 1."""
    low = tf.range(2 ** nbits, dtype=dtype) / 2 ** nbits
    for u in (0.0, 0.5, 1 - 2.0 ** -24, 1.0):
        z = in_bins(low, tf.constant(u, dtype), nbits)
        np.testing.assert_array_equal(np.floor(z.numpy() * 2 ** nbits), low * 2 ** nbits)


@pytest.mark.slow
@pytest.mark.parametrize("noise", [lambda: None, noise_of_a_number], ids=["uniform", "learned"])
def test_it_is_a_bound_of_the_exact_probability(noise):
    """On average below log P, nearer with each K; the mean density itself is P."""
    model, exact = line(noise())
    n, means = 20_000, []
    for level, log_p in enumerate(exact):
        x = tf.fill([n, 1], double(level))
        one, *more = (model.log_prob(x[:n // k], seed=k, draws=k).numpy() for k in (1, 4, 16))
        error = one.std() / np.sqrt(n)
        assert error > 1e-6 and one.mean() < log_p - 4 * error
        weights = np.exp(one - log_p)
        assert abs(weights.mean() - 1) < 4 * weights.std() / np.sqrt(n)
        means.append([log_p - draws.mean() for draws in (one, *more)])
    gaps = np.mean(means, axis=0)
    assert np.all(np.diff(gaps) < 0) and gaps[1] < 0.5 * gaps[0] and gaps[2] < 0.2 * gaps[0]


@pytest.mark.slow
def test_learned_noise_tightens_the_bound():
    """Trained with the flow of pixels held fixed: what is left is the divergence of q."""
    model, exact = line(noise_of_a_number())
    for layer in model.flow.bijectors[0].layers:
        layer.trainable = False
    x = tf.repeat(tf.range(4.0)[:, None], 64, axis=0)
    gap = np.mean(exact) - np.mean(model.log_prob(tf.repeat(x, 20, axis=0), seed=0))
    uniform = np.mean(exact) - np.mean(line()[0].log_prob(tf.repeat(x, 20, axis=0), seed=0))
    model.compile(optimizers.Adam(0.03))
    model.fit(x, batch_size=256, epochs=150, verbose=0)
    trained = np.mean(exact) - np.mean(model.log_prob(tf.repeat(x, 20, axis=0), seed=0))
    assert 0 < trained < 0.3 * min(gap, uniform)


@pytest.mark.slow
@pytest.mark.parametrize("rule", [logdet.Exact(), logdet.LogDet(
    logdet.Truncated(4), memory=logdet.Tape())], ids=["exact", "series"])
def test_every_way_is_the_tape(rule):
    """Of all weights, those of the noise by way of u, too."""
    flow = bound_of_images(rule)
    x = levels(6)
    want = by_tape(flow, x)
    of_noise = len([v for layer in flow.bijectors[-1].layers for v in layer.trainable_variables])
    assert all(np.abs(d).max() > 1e-8 for d in want[1][:of_noise])

    def all_ways(x):
        return [autodiff.gradients(flow, loss_of, x, seed=3, autodiff=way)
                for way in WAYS.values()]

    for got in all_ways(x) + traced(all_ways, x):
        assert_equal(got, want)


def test_the_gradient_is_that_of_the_bound():
    """By differences along a direction of all weights, with the noise held fixed."""
    model = FlowModel(bound_of_images())
    x, variables = levels(4), model.trainable_variables
    random, values = np.random.RandomState(0), [v.numpy() for v in variables]
    direction = [random.randn(*v.shape) for v in values]
    _, gradients = model._sums(x, tf.ones([4], tf.float64), seeds.Part(seeds.as_seed(5)))
    slope = sum(np.sum(g * d) for g, d in zip(gradients, direction))
    ends = []
    for step in (1e-5, -1e-5):
        for variable, value, d in zip(variables, values, direction):
            variable.assign(value + step * d)
        with upkeep.kept():  # singular vectors as they are: to first order the norms are the same
            ends.append(float(-tf.reduce_sum(model.log_prob(x, seed=5))))
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5) and abs(slope) > 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_weighted_sums_in_parts(count, monkeypatch):
    """As halves of micro-batches: the noise of a row does not depend on the part it is in."""
    monkeypatch.setattr(threads, "are_prepared", lambda: True)
    flow = bound_of_images(logdet.LogDet(logdet.Truncated(4)))
    x, weights = levels(7), tf.linspace(double(0.0), 2.0, 7)
    part = seeds.Part(seeds.as_seed(4), tf.constant(7, tf.int64))
    want = OfATape(flow)._sums(x, weights, part)
    model = FlowModel(flow, micro_batches=count, autodiff=WAYS["chunks"])
    assert_equal(traced(lambda x: model._sums(x, weights, part), x), want)


def test_rows_have_noise_of_their_own():
    """From their place in the batch, by the pair and by the steps."""
    flow, x = bound_of_images(), levels(1)
    x = tf.repeat(x, 5, axis=0)
    z, log_det = flow.forward_and_log_det(x, seed=7)
    assert len(np.unique(np.round(log_det, 9))) == 5
    last = flow.forward_and_log_det(x[:3], seed=seeds.starting(7, 2))
    assert_equal(last, (z[2:], log_det[2:]))
    bound = flow.bind(7, 5, x.dtype)
    assert_equal(bound.value(x[:3], Rows(tf.range(2, 5))), z[2:])
    assert np.abs(flow.forward(x, seed=8) - z).max() > 0.01


@pytest.mark.slow
def test_two_replicas(mirrored):
    """The same weights as on one device."""
    def small():
        model = FlowModel(bound_of_pairs())
        model.compile(optimizers.Adam(1e-2))
        return model

    one, x = small(), levels(12, (2,))
    with mirrored.scope():
        two = small()
    for model in (one, two):
        model.fit(x, batch_size=6, shuffle=False, verbose=0)
    for a, b in zip(one.trainable_variables, two.trainable_variables):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.slow
def test_saved_and_loaded(tmp_path):
    model, x = FlowModel(bound_of_pairs()), levels(3, (2,))
    model.compile("adam")
    model.fit(x.numpy().astype("uint8"), verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.log_prob(x, seed=1), model.log_prob(x, seed=1))
    np.testing.assert_array_equal(again.sample(2, seed=0), model.sample(2, seed=0))


def test_bits_samples_and_bytes():
    """Bits need no `nbits`; samples are levels; integers are taken as they are."""
    model, x = FlowModel(bound_of_images()), levels(6)
    model.compile("adam")
    logs = model.evaluate(x, verbose=0, return_dict=True)
    assert logs["bpd"] == pytest.approx(logs["nll"] / 16 / np.log(2), rel=1e-5)
    log_prob = model.log_prob(x, seed=2)
    np.testing.assert_allclose(model.bits_per_dim(x, seed=2), -log_prob / 16 / np.log(2))
    np.testing.assert_array_equal(model.log_prob(x.numpy().astype("uint8"), seed=2), log_prob)
    samples = model.sample(50, seed=0).numpy()
    assert samples.shape == (50, *SHAPE) and set(np.unique(samples)) == {0, 1, 2, 3}
    lower, upper = model.log_prob_bounds(x, seed=2, draws=3)
    want = model.log_prob(x, seed=2, draws=3)
    np.testing.assert_allclose([lower, upper], [want, want], rtol=1e-10)
    assert np.isneginf(model.log_prob(x + 0.5)).all() and np.isneginf(
        model.log_prob(x - 4, draws=2)).all()


@pytest.mark.slow
def test_beside_a_context():
    """A conditional flow of pixels: contexts go with their rows."""
    flow = Chain([conditional("image"), dequantizer()])
    x, c = levels(3), tf.random.stateless_normal([3, 4, 4, 1], [1, 1], dtype=tf.float64)
    model = FlowModel(flow)
    log_prob = model.log_prob(x, seed=0, context=c)
    first = model.log_prob(x[:1], seed=0, context=c[0])
    np.testing.assert_allclose(first, log_prob[:1])
    part = seeds.Part(seeds.as_seed(4), tf.constant(0, tf.int64))
    rows, weights = model.as_weights((x, c)), tf.ones([3], tf.float64)
    assert_equal(model._sums(rows, weights, part), OfATape(flow)._sums(rows, weights, part))
    assert model.sample(2, seed=0, context=c).shape == [2, 3, *SHAPE]


def test_start_from_data():
    """ActNorms of the pixels see noisy levels; those of the noise stay the identity."""
    flow = Chain([image(nblocks=(1,), fc_end=False), flows.dequantizer(
        SHAPE, nbits=2, nblocks=1, idim=4, features=3, **EXACT)])
    z = flow.initialize(levels(300))
    np.testing.assert_allclose([np.mean(z), np.std(z)], [0, 1], atol=1e-6)
    *_, noise = flow.bijectors
    assert not any(np.any(layer.log_scale) for layer in noise.layers
                   if hasattr(layer, "log_scale"))


def message(call, error=ValueError):
    with pytest.raises(error) as found:
        call()
    return str(found.value)


def test_what_is_wrong_is_named():
    flow, x = bound_of_images(), levels(3)
    model = FlowModel(flow)
    model.compile("adam")
    for call, words in [
            (lambda: model.fit(x / 4 + 0.1), "`x` must be whole numbers from 0 to 3, levels of 2"),
            (lambda: flow.initialize(tf.zeros_like(x) + [[[[0.5]]]]), "Received: 0.5 in row 0"),
            (lambda: FlowModel(flow, nbits=2), "`nbits` must not be given where the flow takes"),
            (lambda: model.log_prob(x, draws=0), "`draws` must be at least 1"),
            (lambda: Dequantize(None, SHAPE, nbits=0), "`nbits` must be in 1..16"),
            (lambda: Dequantize(None, SHAPE, nbits=None), "`nbits` must be in 1..16"),
            (lambda: Dequantize(image(), SHAPE), "`noise_flow` must map noise of shape (4, 4, 1)"),
            (lambda: flows.dequantizer([4]), "`event_shape` must be [H, W, C]"),
            (lambda: flows.dequantizer(SHAPE, kernels=3), "`kernels` must be at least two")]:
        assert words in message(call), words
    step, d = between_levels().bind(0, 3), tf.zeros([3], tf.float64)
    two = levels(3, (2,))
    assert "has no vijp" in message(lambda: step.vijp(two, Rows(tf.range(3)), two, d),
                                    NotImplementedError)
