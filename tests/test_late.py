"""Log-determinants that come with their gradient: the numbers of those that do not."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.allocator import peaks
from tests.registry import EXACT, branch, example, image
from tests.test_engine import _Layer
from tfresflow import FlowModel, lanes, layers, logdet
from tfresflow.functional import norm_layers, update_norms
from tfresflow.functions import Function

RULE = logdet.Truncated(11)  # more than a round of the recurrence


def estimator(memory=None, rule=RULE, **kwargs):
    return {**EXACT, "log_det": logdet.LogDet(rule, memory=memory or logdet.Recompute(), **kwargs)}


def plane(memory=None, dims=(9, 8), **kwargs):
    return flows.toy_flow(nblocks=2, dims=dims, **estimator(memory, **kwargs))


def chain_with_tfp():
    block = bijectors.InvertibleResidual(branch([2, 2, 2]), [2, 2, 2], estimator()["log_det"])
    return bijectors.Chain([bijectors.Flatten([2, 2, 2]), tfp.bijectors.Softsign(), block])


FLOWS = {
    "plane": plane,
    "plane_auto": lambda: plane(logdet.Auto(tape_bytes=0)),
    "plane_random": lambda: plane(rule=logdet.Geometric(0.3)),
    "plane_rademacher": lambda: plane(probe=logdet.rademacher),
    "plane_recomputed": lambda: plane(dims=(400, 1)),
    "plane_chunks": lambda: plane(logdet.Recompute(chunk_bytes=150)),
    "plane_two_probes": lambda: plane(num_probes=2),
    "plane_preact": lambda: flows.toy_flow(nblocks=1, dims=(6,), preact=True, **estimator()),
    "plane_max_min": lambda: flows.toy_flow(nblocks=1, dims=(6,), act=layers.MaxMin,
                                            **estimator()),
    "plane_dense_net": lambda: flows.toy_flow(nblocks=1, dense_net=flows.DenseNet(2, 3),
                                              act=layers.CLipSwish, **estimator()),
    "plane_series": lambda: plane(gradient=logdet.Series()),
    "plane_tape": lambda: plane(logdet.Tape()),
    "exact": lambda: flows.toy_flow(nblocks=1, dims=(6,), **EXACT),
    "line": lambda: flows.toy_flow([1], nblocks=2, dims=(9,), **estimator()),
    "tabular": lambda: flows.tabular_flow([5], nblocks=2, dims=(9,), **estimator(num_probes=2)),
    "image": lambda: image(**estimator()),
    "image_chunks": lambda: image(**estimator(logdet.Recompute(chunk_bytes=1200))),
    "image_factor_out": lambda: image(factor_out=True, **estimator(logdet.Auto())),
    "chain_with_tfp": chain_with_tfp,
}


def roughened(flow):
    """With norms at their bound, and scales that are not one."""
    for layer in flow.layers:
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(weight + 0.3 * np.random.RandomState(i).randn(*weight.shape))
    update_norms(norm_layers(flow.layers))
    return flow


def value_and_gradients(flow, x, late):
    """z, log_det, and the gradients of `|z|^2 / 2 + <b, log_det>` for x and all weights."""
    b = tf.cast(tf.linspace(-1.0, 2.0, tf.shape(x)[0]), x.dtype)
    later = tf.zeros_like(b)
    with tf.GradientTape() as tape:
        tape.watch([x, later])
        if late:
            z, log_det = flow.forward_late(x, later, seed=3)
        else:
            z, log_det = flow.forward_and_log_det(x, seed=3)
        loss = 0.5 * tf.reduce_sum(z ** 2) + tf.reduce_sum(b * log_det)
    sources = [later, x, *(v.value for layer in flow.layers for v in layer.trainable_variables)]
    missing, *gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
    return z, log_det + missing, gradients


def batch(flow, n):
    x = example(flow.event_shape, n)
    return tf.sigmoid(x) if len(flow.event_shape) > 1 else x


def rough(name):
    """The same whenever it is made."""
    keras.utils.set_random_seed(0)
    return roughened(FLOWS[name]())


@functools.cache
def values_at_once(name):
    """What the batch as a whole gives without `later`."""
    flow = rough(name)
    return value_and_gradients(flow, batch(flow, 6), late=False)


def assert_equal(got, want):
    for one, other in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10 * max(scale, 1e-3))


@pytest.mark.fast("plane-True", "line-False", "chain_with_tfp-True", "exact-True")
@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("name", FLOWS)
def test_numbers_and_gradients(name, halves, monkeypatch):
    """Of weighted examples, in float64, traced and eager, the batch whole and as two halves."""
    want = values_at_once(name)
    monkeypatch.setattr(lanes, "are_there", lambda: halves)
    flow = rough(name)
    x = batch(flow, 6)
    assert np.abs(want[1]).max() > 0.01
    assert_equal(value_and_gradients(flow, x, late=True), want)
    traced = tf.function(lambda x: value_and_gradients(flow, x, late=True), autograph=False)
    assert_equal(traced(x), want)


@pytest.mark.fast("5-line")
@pytest.mark.parametrize("name", ["plane", "line", "image"])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_batches_of_odd_and_unknown_size(name, n, monkeypatch):
    monkeypatch.setattr(lanes, "are_there", lambda: True)
    flow = roughened(FLOWS[name]())
    x = batch(flow, 6)[:n]
    late = tf.function(lambda x: value_and_gradients(flow, x, late=True), autograph=False,
                       input_signature=[tf.TensorSpec([None, *flow.event_shape], x.dtype)])
    got = late(x)
    assert got[1].shape == [n]
    if n:
        want = value_and_gradients(flow, x, late=False)
        assert_equal(value_and_gradients(flow, x, late=True), want)
        assert_equal(got, want)


@pytest.mark.fast("line-True", "plane-True", "exact-False")
@pytest.mark.parametrize("name, computed", [
    ("plane", True), ("plane_auto", True), ("plane_recomputed", True), ("line", True),
    ("image", True), ("plane_series", False), ("plane_tape", False), ("exact", False)])
def test_what_is_computed_late(name, computed):
    """The blocks' part is missing before the gradient, where it is said to be."""
    flow = roughened(FLOWS[name]())
    x = batch(flow, 4)
    _, early = flow.forward_late(x, tf.zeros([4], x.dtype), seed=3)
    _, log_det = flow.forward_and_log_det(x, seed=3)
    assert (np.abs(early - log_det).max() > 1e-3) == computed


@pytest.mark.parametrize("n", [2, 9])
def test_products_of_a_step(n):
    """g once for its value, once for all else; n products for the value, one for the gradient."""
    layer, x = _Layer(), example([3])
    layer.build(x.shape)
    block = logdet.LogDet(logdet.Truncated(n), memory=logdet.Recompute()).late(
        layer, tf.TensorSpec(x.shape, x.dtype), 0)
    gradients_of(block, x)
    assert layer.counting.counts == {"g": 1, "vjp": n + 1}


def test_products_in_the_plane():
    """One with v, through which the gradient goes, and one across it; no more, whatever n."""
    counts = {"products": 0}

    @dataclasses.dataclass(frozen=True, eq=False)
    class Sine(Function):
        shareable = False

        def __call__(self, weights, x):
            return tf.sin(x) / 2

        def linearise_forward(self, weights, x):
            def jvp(t):
                counts["products"] += 1
                return t * tf.cos(x) / 2

            return self(weights, x), jvp

    layer, x = _Layer(), example([2])
    layer.counting = Sine()
    layer.build(x.shape)
    block = logdet.LogDet(logdet.Truncated(20), memory=logdet.Recompute()).late(
        layer, tf.TensorSpec(x.shape, x.dtype), 0)
    gradients_of(block, x)
    assert counts["products"] == 2


def gradients_of(block, x):
    later = tf.zeros_like(x[:, 0])
    with tf.GradientTape() as tape:
        tape.watch([x, later])
        z, log_det = block(x, later, 0, False)
        loss = tf.reduce_sum(z) + tf.reduce_sum(log_det)
    return tape.gradient(loss, [x, later])


@pytest.mark.slow
@pytest.mark.allocator
def test_a_block_keeps_its_input_alone():
    """By so much memory grows with the depth: its v and w come only with the gradient."""
    x = tf.cast(example([64], 4096), tf.float32)
    settings = {**estimator(rule=logdet.Truncated(3)), "dtype": "float32"}
    peak = {}
    for late in (False, True):
        for depth in (2, 14):
            flow = flows.tabular_flow([64], nblocks=depth, dims=(8,), actnorm=False, **settings)
            step = tf.function(lambda: value_and_gradients(flow, x, late)[2], autograph=False)
            peak[late, depth] = min(peaks(step))
    growth = {late: (peak[late, 14] - peak[late, 2]) / 12 / (x.shape.num_elements() * 4)
              for late in (False, True)}
    assert growth[True] < 1.15 < 1.8 < growth[False], growth


@pytest.mark.slow
def test_training_is_the_same():
    """A few steps of `fit`, and those of a model whose loss is not known to be so."""

    class Early(FlowModel):
        def example_losses(self, x, seed):
            return super().example_losses(x, seed)

    x, results = example([2], 12), []
    for kind in (FlowModel, Early):
        for micro_batches in (1, 3):
            model = kind(plane(dims=(7,)), seed=5, micro_batches=micro_batches)
            model.compile("sgd")
            history = model.fit(x, sample_weight=np.linspace(0, 1, 12), batch_size=6, epochs=2,
                                shuffle=False, verbose=0).history["loss"]
            # Not the marks of norms, which are of all bits.
            results.append([history, *(w for w in model.get_weights() if w.dtype.kind == "f")])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-8, atol=1e-10)


@pytest.mark.slow
def test_an_overridden_forward_pass_is_respected():
    """Of a bijector in a chain, and of a model's density."""

    class Twice(bijectors.InvertibleResidual):
        def forward_and_log_det(self, x, seed=None):
            z, log_det = super().forward_and_log_det(x, seed)
            return 2 * z, log_det + 2 * np.log(2.0)

    class Tempered(FlowModel):
        def compute_nll(self, x, seed, flow=None):
            return 0.5 * super().compute_nll(x, seed, flow)

    x = example([2], 6)
    block = Twice(branch([2]), [2], estimator()["log_det"])
    flow = bijectors.Chain([block, bijectors.ActNorm([2], dtype="float64")])
    assert_equal(value_and_gradients(flow, x, late=True), value_and_gradients(flow, x, late=False))
    losses = [float(compiled(model).train_on_batch(x)[0])
              for model in (Tempered(plane()), FlowModel(plane()))]
    assert losses[0] == pytest.approx(losses[1] / 2, rel=1e-12)


def compiled(model):
    model.initialize(example([2], 6))
    model.compile("sgd")
    return model
