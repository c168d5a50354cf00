"""Flows with a context: `p(x | c)`, whatever the form of c, in all that a flow is used for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.gradients import WAYS, OfATape, assert_close, assert_equal, loss_of, traced
from tests.registry import MAP, branch, conditional, double, example
from tfresflow import FlowModel, layers, logdet, optimizers
from tfresflow.batches import threads
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.functions.branch import ContextLayer
from tfresflow.functions.function import Function
from tfresflow.functions.steps import Rows

tfb, tfd = tfp.bijectors, tfp.distributions
KINDS = ["toy", "table", "image", "monotone", "implicit"]


def contexts(kind, n):
    """One for each row, no two alike where they are not labels."""
    if kind == "table":
        return double(np.arange(n) % 3)
    scale = tf.reshape(tf.linspace(double(-1.0), 1.0, n), [n, *[1] * (3 if kind == "image" else 1)])
    return scale * (double(MAP) if kind == "image" else double([1.0, 2.0]))


def batch(flow, n):
    x = example(flow.event_shape, n)
    return tf.sigmoid(x) if len(flow.event_shape) > 1 else x


@pytest.mark.fast("toy", "table")
@pytest.mark.parametrize("kind", KINDS)
def test_each_row_has_its_own_context(kind):
    """As if each row were alone; and as the flow that is given this context."""
    flow = conditional(kind)
    x, c = batch(flow, 4), contexts(kind, 4)
    z, log_det = flow.forward_and_log_det(x, context=c)
    for i in range(4):
        alone, own = flow.forward_and_log_det(x[i:i + 1], context=c[i:i + 1])
        given, beside = flow.given(c[i]).forward_and_log_det(x[i:i + 1])
        np.testing.assert_allclose(alone[0], z[i], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(given[0], z[i], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose([own[0], beside[0]], 2 * [log_det[i]], rtol=1e-10)
    other = flow.forward_and_log_det(x, context=c[::-1])
    assert np.abs(other[0] - z).max() > 0.01 and np.abs(other[1] - log_det).max() > 0.01


@pytest.mark.fast("toy", "table")
@pytest.mark.parametrize("kind", KINDS)
def test_inverse_and_jacobian(kind):
    flow = conditional(kind)
    x, c = batch(flow, 3), contexts(kind, 3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, log_det = flow.forward_and_log_det(x, context=c)
        flat = tf.reshape(z, [3, -1])
    jacobian = tf.reshape(tape.batch_jacobian(flat, x), [3, flat.shape[1], -1])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
    again, minus = flow.inverse_and_log_det(tf.identity(z), context=c)
    np.testing.assert_allclose(again, x, atol=1e-9)
    np.testing.assert_allclose(minus, -log_det, rtol=1e-8, atol=1e-8)


def loss_of_state(state, log_det):
    return loss_of(tf.reshape(state[0], [state[0].shape[0], -1]), log_det)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_is_the_tape(kind):
    """Derivatives by x, by the context and by all weights, in chunks of rows too."""
    rule = logdet.LogDet(logdet.Truncated(4), memory=logdet.Tape())
    flow = conditional(kind).with_log_det(rule)
    x, c = batch(flow, 6), contexts(kind, 6)
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, c])
        z, log_det = flow.forward_and_log_det(x, seed=3, context=c)
        value = loss_of_state((z, c), log_det)
    want = list(map(tf.convert_to_tensor, tape.gradient(
        value, [x, c, *variables], unconnected_gradients="zero")))
    assert all(np.abs(d).max() > 1e-6 for d in want[2:]) and (
        kind == "table" or np.abs(want[1]).max() > 0.01)

    def all_ways(x):
        found = []
        dz, dlog_det = dz_of(z, log_det)
        for way in WAYS.values():
            with tf.GradientTape() as tape:
                bound = flow.bind(3, 6, x.dtype)
            dx, _, dweights = way(bound.steps, (x, c), Rows(tf.range(6)), dlog_det,
                                  lambda state: ((), (dz, tf.zeros_like(c)))).products
            found.append([*dx, *tape.gradient(bound.weights, variables, dweights,
                                              unconnected_gradients="zero")])
        return found

    for got in all_ways(x) + traced(all_ways, x):
        assert_equal(got, want)


def dz_of(z, log_det):
    with tf.GradientTape() as tape:
        tape.watch([z, log_det])
        value = loss_of_state((z, None), log_det)
    return tape.gradient(value, [z, log_det])


@pytest.mark.fast("toy", "table")
@pytest.mark.parametrize("kind", KINDS)
def test_vijp_undoes_vjp(kind):
    flow = conditional(kind).with_log_det(logdet.LogDet(logdet.Truncated(4)))
    x, c = batch(flow, 3), contexts(kind, 3)
    bound, rows, d = flow.bind(3, 3, x.dtype), Rows(tf.range(3)), double([0.3, -1.0, 2.0])
    z, _ = bound.value((x, c), rows)
    dx, log_det, _ = bound.vjp((x, c), rows, (tf.cos(z), tf.sin(c)), d)
    (z_again, _), (dz, dc), own, _ = bound.vijp((x, c), rows, dx, d)
    assert_close((z_again, dz, dc, own), (z, tf.cos(z), tf.sin(c), log_det), 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_weighted_sums_in_parts(kind, monkeypatch):
    """As `fit` takes them: halves of three micro-batches, data and contexts cut alike."""
    monkeypatch.setattr(threads, "are_prepared", lambda: True)
    flow = conditional(kind).with_log_det(logdet.LogDet(logdet.Truncated(4)))
    weights = tf.linspace(double(0.0), 2.0, 7)
    part, way = Part(as_seed(4), tf.constant(7, tf.int64)), WAYS["chunks"]
    whole = OfATape(flow)
    rows = whole.as_weights((batch(flow, 7), contexts(kind, 7)))
    want = whole._sums(rows, weights, part)
    for count in (1, 3):
        model = FlowModel(flow, micro_batches=count, autodiff=way)
        assert_equal(traced(lambda x: model._sums(x, weights, part), rows), want)


@pytest.mark.fast("toy", "table")
@pytest.mark.parametrize("kind", KINDS)
def test_unknown_batch(kind):
    flow = conditional(kind)
    x, c = batch(flow, 3), contexts(kind, 3)
    specs = [tf.TensorSpec([None, *t.shape[1:]], t.dtype) for t in (x, c)]
    forward = tf.function(lambda x, c: flow.forward_and_log_det(x, context=c), specs)
    z, log_det = flow.forward_and_log_det(x, context=c)
    for n in (1, 3):
        assert_equal(forward(x[:n], c[:n]), (z[:n], log_det[:n]))


@pytest.mark.fast("-2.0", "0.7")
@pytest.mark.parametrize("c", [-2.0, -1.0, 0.0, 0.7, 3.0])
def test_mass_is_one_for_each_context(c):
    """On a grid in the plane, twice as wide as a thousand samples."""
    model = FlowModel(conditional("toy"))
    samples = model.sample(1000, seed=0, context=[c, -c]).numpy()
    low, high = samples.min(axis=0), samples.max(axis=0)
    sides = np.linspace(low - (high - low) / 2, high + (high - low) / 2, 401).T
    x = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    density = np.exp(model.log_prob(x, context=[c, -c]))
    cell = np.prod([side[1] - side[0] for side in sides])
    assert density.sum() * cell == pytest.approx(1, abs=1e-4)


def mixture(n, seed=0):
    """`(x, c, log p(x | c))`: two normals whose place, distance and weights follow c in (-1, 1)."""
    rng = np.random.RandomState(seed)
    c = rng.uniform(-1, 1, n)
    share, apart, deviation = 0.5 + 0.4 * c, 1.5 + c, 0.4 + 0.2 * c
    center = np.stack([np.sin(3 * c), c], axis=1)
    away = np.stack([apart, 0 * c], axis=1)
    x = center + np.where(rng.rand(n) < share, 1, -1)[:, None] * away
    x += deviation[:, None] * rng.randn(n, 2)
    log_probs = [np.log(part) - 0.5 * np.sum((x - center - sign * away) ** 2, axis=1)
                 / deviation ** 2 - 2 * np.log(deviation) - np.log(2 * np.pi)
                 for part, sign in ((share, 1), (1 - share, -1))]
    return x.astype("float32"), c[:, None].astype("float32"), np.logaddexp(*log_probs)


@pytest.mark.exhaustive
def test_a_mixture_that_follows_its_context_is_learned():
    """Within 0.05 nats of its entropy, on rows that were not seen."""
    x, c, _ = mixture(20_000)
    network = keras.Sequential([keras.layers.Dense(32, "silu"), keras.layers.Dense(16)])
    flow = flows.toy_flow(nblocks=8, dims=(32, 32), coeff=0.97, context_shape=1,
                          context_network=network, seed=0)
    model = FlowModel(flow)
    model.compile(optimizers.Adam(keras.optimizers.schedules.CosineDecay(5e-3, 2400)))
    model.fit((x, c), batch_size=250, epochs=30, verbose=0)
    x, c, log_p = mixture(5_000, seed=1)
    gap = log_p - model.log_prob(x, context=c)
    assert np.mean(gap) < 0.05 and abs(np.mean(gap)) < 0.05
    assert bijectors.norm_report(flow).certified


def test_distributions_of_contexts():
    """As in TFP: the batch shape is that of the contexts; `bijector_kwargs` give one a row."""
    flow, c = conditional("toy"), contexts("toy", 5)
    dist = bijectors.distribution(flow, c)
    assert (dist.batch_shape, dist.event_shape) == ([5], [2])
    x = tf.identity(dist.sample(4, seed=0))
    log_prob = dist.log_prob(x)
    assert x.shape == [4, 5, 2] and log_prob.shape == [4, 5]
    np.testing.assert_allclose(log_prob[1], FlowModel(flow).log_prob(x[1], context=c), rtol=1e-8)
    base = tfd.Sample(tfd.Normal(double(0.0), 1.0), [2])
    with_context = tfd.TransformedDistribution(base, tfb.Invert(flow))
    np.testing.assert_allclose(
        with_context.log_prob(x[1], bijector_kwargs={"context": c}), log_prob[1], rtol=1e-8)
    draws = with_context.sample(5, seed=1, bijector_kwargs={"context": c})
    assert draws.shape == [5, 2]
    one = bijectors.distribution(flow, c[0])
    assert one.batch_shape == [] and one.sample(3, seed=0).shape == [3, 2]
    np.testing.assert_allclose(dist.log_prob(x[0, 0])[0], one.log_prob(x[0, 0]), rtol=1e-8)


class KernelOfContext(ContextLayer, keras.layers.Layer):
    """A map of x that depends on the context: as steep as that makes it."""

    context_shape = (2,)

    @property
    def function(self):
        return _Scaled()


class _Scaled(Function):
    takes_context, shareable = True, False

    def __call__(self, weights, x):
        return weights[-1][:, :1] * x


def test_certified_for_every_context():
    flow = conditional("toy")
    assert bijectors.norm_report(flow).certified
    g = keras.Sequential([*branch([2]).layers, KernelOfContext(dtype="float64")])
    with pytest.warns(UserWarning, match="taken for contractions"):
        block = bijectors.InvertibleResidual(g, [2])
    assert not bijectors.norm_report(block).certified


def test_a_network_leaves_the_context_to_others():
    """In a chain, when it is started and afterwards: what follows sees the context itself."""
    embedded = conditional("table")
    after = bijectors.ActNorm([3], context_shape=[1], dtype="float64")
    network = keras.layers.Reshape([1], dtype="float64")
    flow = bijectors.Chain([bijectors.Embedded(after, network, []), embedded])
    x, c = batch(flow, 40), contexts("table", 40)
    z = flow.initialize(x, context=c)
    np.testing.assert_allclose(np.mean(z, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(flow.forward_and_log_det(x, context=c)[0], z, atol=1e-9)


@pytest.mark.parametrize("gates", [False, True])
def test_film_is_a_contraction_for_large_contexts(gates):
    """And its function is the layer, with the derivative of a tape."""
    film = layers.FiLM([2], gates=gates, dtype="float64")
    x, c = example([4, 3], 5), 50 * example([2], 5, seed=3)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = film(x, c)
    dx = tape.gradient(y, x)
    assert np.abs(dx).max() <= 1 and (gates == bool(np.abs(dx).min() < 0.999))
    again, vjp = film.function.linearise([*film.effective_weights(), c], x)
    np.testing.assert_allclose(again, y)
    np.testing.assert_allclose(vjp(tf.ones_like(y)), dx)


def test_films_of_maps():
    """The mean of the patch that a place covers."""
    film = layers.FiLM([4, 4, 1], dtype="float64")
    x, c = tf.zeros([1, 2, 2, 3], tf.float64), double(np.arange(16.0).reshape(1, 4, 4, 1))
    y = film(x, c)
    kernel = film.effective_weights()[0]
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        mean = tf.reduce_mean(c[0, 2 * i:2 * i + 2, 2 * j:2 * j + 2])
        np.testing.assert_allclose(y[0, i, j], mean * kernel[0])
