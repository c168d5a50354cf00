"""One gradient, whatever is kept: every strategy gives that of a tape around the pair."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.allocator import peaks
from tests.registry import EXACT, QUICK, REGISTRY, branch, example, image, shared
from tfresflow import FlowModel, autodiff, layers, logdet
from tfresflow.batches import threads
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.functions import upkeep
from tfresflow.functions.branch import norm_layers, update_norms
from tfresflow.functions.sweep import Sweep

RULE = logdet.Truncated(11)  # more than a round of the recurrence


class OnlyInputs(Sweep):
    """Recomputes blocks that are so small that `Recomputed` would keep them, too."""

    def __init__(self, chunk_bytes=None):
        self._chunk_bytes = chunk_bytes

    def forward(self, step, x, rows, dlog_det):
        rows = rows._replace(chunk_bytes=self._chunk_bytes)
        return step.value(x, rows), functools.partial(step.vjp, x, rows, dlog_det=dlog_det)


WAYS = {"recomputed": autodiff.Recomputed(), "stored": autodiff.Stored(),
        "released": autodiff.Released(), "inputs": OnlyInputs(), "chunks": OnlyInputs(150)}
# Those that go from x, or from z, to all others: by solves, or by more evaluations.
OTHERS = {"checkpointed": autodiff.Checkpointed(), "checkpointed_2": autodiff.Checkpointed(2),
          "memory_poor": autodiff.MemoryPoor(), "reversible": autodiff.Reversible(),
          "moonwalk": autodiff.Moonwalk(fallback=None),
          "moonwalk_reversible": autodiff.Moonwalk(autodiff.Reversible(), fallback=None)}
FORWARD = {"forward": autodiff.ForwardMode(),
           "moonwalk_pure": autodiff.Moonwalk(autodiff.ForwardMode(), fallback=None)}


def estimator(rule=RULE, **kwargs):
    return {**EXACT, "log_det": logdet.LogDet(rule, memory=logdet.Tape(), **kwargs)}


def plane(dims=(9, 8), **kwargs):
    return flows.toy_flow(nblocks=2, dims=dims, **estimator(**kwargs))


def chain_with_tfp():
    block = bijectors.InvertibleResidual(branch([2, 2, 2]), [2, 2, 2], estimator()["log_det"])
    return bijectors.Chain([bijectors.Flatten([2, 2, 2]), tfp.bijectors.Softsign(), block])


FLOWS = {
    "plane": plane,
    "plane_random": lambda: plane(rule=logdet.Geometric(0.3)),
    "plane_normal": lambda: plane(probe=logdet.normal),
    "plane_adaptive": lambda: plane(rule=logdet.Adaptive()),
    "plane_wide": lambda: plane(dims=(400, 1)),
    "plane_two_probes": lambda: plane(num_probes=2),
    "plane_preact": lambda: flows.toy_flow(nblocks=1, dims=(6,), preact=True, **estimator()),
    "plane_max_min": lambda: flows.toy_flow(nblocks=1, dims=(6,), act=layers.MaxMin,
                                            **estimator()),
    "plane_dense_net": lambda: flows.toy_flow(nblocks=1, dense_net=flows.DenseNet(2, 3),
                                              act=layers.CLipSwish, **estimator()),
    "plane_series": lambda: plane(gradient=logdet.Series()),
    "exact": lambda: flows.toy_flow(nblocks=1, dims=(6,), **EXACT),
    "line": lambda: flows.toy_flow([1], nblocks=2, dims=(9,), **estimator()),
    "tabular": lambda: flows.tabular_flow([5], nblocks=2, dims=(9,), **estimator(num_probes=2)),
    "tabular_series": lambda: flows.tabular_flow([3], nblocks=1, dims=(9,),
                                                 **estimator(gradient=logdet.Series())),
    "tabular_adaptive": lambda: flows.tabular_flow(
        [3], nblocks=1, dims=(9,), **estimator(rule=logdet.Adaptive())),
    "tabular_bracket": lambda: flows.tabular_flow(
        [3], nblocks=1, dims=(9,), **estimator(rule=logdet.Bracket(1e-9))),
    "image": lambda: image(**estimator()),
    "image_factor_out": lambda: image(factor_out=True, **estimator()),
    "chain_with_tfp": chain_with_tfp,
}


# Tried in all ways, and traced.
MAIN = ("plane", "tabular", "tabular_series", "image_factor_out", "chain_with_tfp")


def roughened(flow):
    """With norms at their bound, and scales that are not one."""
    for layer in flow.layers:
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(weight + 0.3 * np.random.RandomState(i).randn(*weight.shape))
    update_norms(norm_layers(flow.layers))
    return flow


def loss_of(z, log_det):
    """Of unequal examples, and not linear in the log-determinant."""
    b = tf.cast(tf.linspace(-1.0, 2.0, tf.shape(z)[0]), z.dtype)
    return 0.5 * tf.reduce_sum(z ** 2) + tf.reduce_sum(b * log_det + tf.sin(log_det))


def by_tape(flow, x):
    """`(value, dvariables, dx)` by a tape around the pair."""
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss_of(*flow.forward_and_log_det(x, seed=3))
    *dvariables, dx = map(tf.convert_to_tensor, tape.gradient(  # that of an embedding is sparse
        value, [*variables, x], unconnected_gradients="zero"))
    return value, dvariables, dx


def batch(flow, n):
    x = example(flow.event_shape, n)
    return tf.sigmoid(x) if len(flow.event_shape) > 1 else x


def rough(name):
    """The same whenever it is made."""
    keras.utils.set_random_seed(0)
    return roughened(FLOWS[name]())


def traced(all_ways, x):
    """As `fit` traces them: norms are those of the weights, and no graph looks whether they are."""
    with upkeep.kept():
        return tf.function(all_ways, autograph=False)(x)


def assert_equal(got, want):
    assert_close(got, want, 1e-10)


def assert_close(got, want, rtol):
    for one, other in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=rtol, atol=0.1 * rtol * max(scale, 1e-3))


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


class OfATape(FlowModel):
    """Whose loss is its own: a tape goes around it."""

    def example_losses(self, x, seed):
        return super().example_losses(x, seed)


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


@pytest.mark.slow
@pytest.mark.allocator
def test_what_grows_with_the_depth():
    """By its input alone; by all activations, of the series too; by those of g."""
    x = tf.cast(example([64], 4096), tf.float32)
    settings = {**estimator(rule=logdet.Truncated(3), gradient=logdet.Series()),
                "dtype": "float32"}
    peak = {}
    for name in ("inputs", "stored", "released"):
        for depth in (2, 14):
            flow = flows.tabular_flow([64], nblocks=depth, dims=(8,), actnorm=False, **settings)
            model = FlowModel(flow, autodiff=WAYS[name])
            step = tf.function(lambda: model._sums(x, tf.ones([4096]), Part(as_seed(0)))[1],
                               autograph=False)
            peak[name, depth] = min(peaks(step))
    growth = {name: (peak[name, 14] - peak[name, 2]) / 12 / (x.shape.num_elements() * 4)
              for name in ("inputs", "stored", "released")}
    assert (0.7 < growth["inputs"] < 1.3 < 1.7 < growth["released"] < 2.5
            < 3.5 < growth["stored"]), growth
