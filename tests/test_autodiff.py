"""One gradient, whatever is kept: every strategy gives that of a tape around the pair."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.gradients import (FLOWS, MAIN, OTHERS, WAYS, OfATape, assert_close, assert_equal, batch,
                             by_tape, loss_of, rough, roughened, traced)
from tests.registry import QUICK, REGISTRY, example, shared
from tfresflow import FlowModel, autodiff, logdet
from tfresflow.batches import threads
from tfresflow.batches.seeds import Part, as_seed


@pytest.mark.fast("line", "exact", "plane_max_min")
@pytest.mark.parametrize("name", FLOWS)
def test_every_way_is_the_tape(name):
    """In float64, of any loss, eager and traced."""
    flow = rough(name)
    x = batch(flow, 6)
    want = by_tape(flow, x)
    assert np.abs(want[2]).max() > 0.01

    def all_ways(x):
        return [autodiff.gradients(flow, loss_of, x, seed=3, autodiff=way)
                for way in (WAYS.values() if name in MAIN else [WAYS["inputs"]])]

    for got in all_ways(x) + traced(all_ways, x):
        assert_equal(got, want)
    for strategy in OTHERS.values() if name in MAIN else ():
        assert_close(autodiff.gradients(flow, loss_of, x, 3, autodiff=strategy), want, 1e-8)


def stochastic(name, n):
    """A flow of the registry, its blocks with a stochastic estimate, and an input for it."""
    flow, x = shared(name, n)
    return flow.with_log_det(logdet.LogDet(logdet.Truncated(4), memory=logdet.Tape())), x


FEW = [name for name in QUICK if "flow" not in name and "tfp_" not in name and name != "Given"]


@pytest.mark.fast(*FEW)
@pytest.mark.parametrize("name", REGISTRY)
def test_law_every_way_is_the_tape(name):
    """Of every flow, eager; of a few traced: each product that a step has for its derivative."""
    flow, x = stochastic(name, 3)
    want = by_tape(flow, x)

    def all_ways(x):
        return [autodiff.gradients(flow, loss_of, x, seed=3, autodiff=WAYS[way])
                for way in ("inputs", "stored", "released")]

    for got in all_ways(x) + (traced(all_ways, x) if name in FEW else []):
        assert_equal(got, want)


@pytest.mark.fast(*FEW)
@pytest.mark.parametrize("name", REGISTRY)
def test_law_strategies_by_solves_are_the_tape(name):
    """Of every flow: from z, and forward from the derivative by x."""
    flow, x = stochastic(name, 3)
    want = by_tape(flow, x)
    for way in ("checkpointed", "memory_poor", "reversible", "moonwalk"):
        got = autodiff.gradients(flow, loss_of, x, seed=3, autodiff=OTHERS[way])
        assert_close(got, want, 1e-8 if way in ("reversible", "moonwalk") else 1e-10)


@pytest.mark.fast("FactorOut", "InvertibleResidual_dense")
@pytest.mark.parametrize("name", REGISTRY)
def test_law_weighted_sums_in_parts(name, monkeypatch):
    """Of every flow: halves of three micro-batches, of unequal weights, traced as in `fit`."""
    monkeypatch.setattr(threads, "are_prepared", lambda: True)
    flow, x = stochastic(name, 7)
    weights = tf.linspace(tf.constant(0.0, tf.float64), 2.0, 7)
    part = Part(as_seed(4), tf.constant(7, tf.int64))
    want = OfATape(flow)._sums(x, weights, part)
    model = FlowModel(flow, micro_batches=3, autodiff=WAYS["chunks"], dtype="float64")
    assert_equal(traced(lambda x: model._sums(x, weights, part), x), want)


@pytest.mark.slow
@pytest.mark.parametrize("name, micro_batches, halves", [
    ("plane", 5, True), ("line", 1, False), ("tabular", 3, True), ("image_factor_out", 3, False),
    ("image_factor_out", 1, True)])
def test_weighted_sums_in_parts(name, halves, micro_batches, monkeypatch):
    """Losses and gradients of weighted examples: whole, as two halves, and in micro-batches."""
    monkeypatch.setattr(threads, "are_prepared", lambda: halves)
    flow = rough(name)
    x, weights = batch(flow, 12), tf.linspace(tf.constant(0.0, tf.float64), 2.0, 12)
    part = Part(as_seed(4), tf.constant(7, tf.int64))
    want = OfATape(flow)._sums(x, weights, part)
    models = [FlowModel(flow, micro_batches=micro_batches, autodiff=WAYS[way])
              for way in ("stored", "chunks")]

    def all_ways(x):
        return [model._sums(x, weights, part) for model in models]

    for got in all_ways(x) + traced(all_ways, x):
        assert_equal(got, want)


@pytest.mark.fast("5-line")
@pytest.mark.parametrize("name", ["plane", "line", "image"])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_batches_of_odd_and_unknown_size(name, n, monkeypatch):
    monkeypatch.setattr(threads, "are_prepared", lambda: True)
    flow = roughened(FLOWS[name]())
    x, weights = batch(flow, 6)[:n], tf.linspace(tf.constant(1.0, tf.float64), 2.0, 6)[:n]
    part, model = Part(as_seed(4), tf.constant(0, tf.int64)), FlowModel(flow)
    want = OfATape(flow)._sums(x, weights, part) if n else None
    for kind in ({}, {"input_signature": [tf.TensorSpec([None, *flow.event_shape], x.dtype),
                                          tf.TensorSpec([None], x.dtype)]}):
        traced = tf.function(lambda x, w: model._sums(x, w, part), autograph=False, **kind)
        losses, gradients = traced(x, weights)
        assert losses.shape == [n]
        if n:
            assert_equal((losses, gradients), want)
        else:
            assert not any(np.abs(g).max() for g in gradients)


def test_derivatives_are_taken_once():
    """What was found without a tape must not look as if it were constant."""
    flow, x = bijectors.ActNorm([2], dtype="float64"), example([2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value, _, dx = autodiff.gradients(flow, loss_of, x)
    with pytest.raises(ValueError, match="must not be differentiated"):
        tape.gradient(dx, x)
    with pytest.raises(ValueError, match="must not be differentiated"):
        with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)):
            autodiff.gradients(flow, loss_of, x)


def test_variables_of_the_loss():
    """Of one's own, beside those of the flow and in any order."""
    flow, scale = bijectors.ActNorm([2], dtype="float64"), tf.Variable(2.0, dtype=tf.float64)
    x, shift = example([2]), flow.layers[0].shift

    def loss(z, log_det):
        return scale * tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det) + tf.reduce_sum(shift)

    value, (of_shift, of_scale), _ = autodiff.gradients(flow, loss, x, variables=[shift, scale])
    assert float(value) == pytest.approx(2 * np.sum(x.numpy() ** 2))
    assert float(of_scale) == pytest.approx(np.sum(x.numpy() ** 2))
    np.testing.assert_allclose(of_shift, 1 + 4 * np.sum(x, axis=0), rtol=1e-12)
