"""What the engine promises without a clock: how often things are traced, run and kept."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bijectors.flows import image_flow, toy_flow
from tests.registry import example
from tests.test_logdet import built_branch, flat, peak_memory, value_and_gradients
from tfresflow import layers, logdet
from tfresflow.functional import Function, FunctionalLayer, functional


def gradient_graph(flow):
    """The graph of a gradient of the flow's log-determinant."""
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            z, log_det = flow.forward_and_log_det(x, seed=0)
            loss = tf.reduce_sum(z ** 2) + tf.reduce_sum(log_det)
        return tape.gradient(loss, variables)

    return step.get_concrete_function(tf.TensorSpec([5, *flow.event_shape])).graph.as_graph_def()


@pytest.mark.parametrize("build", [
    lambda n: toy_flow(nblocks=n, dims=(7, 7), seed=0),
    lambda n: image_flow([4, 4, 1], nblocks=(n,), idim=9, n_fc_blocks=1, fc_idim=3, seed=0)])
def test_equal_blocks_are_traced_once(build):
    """Six blocks more add calls to the graph, and not one function."""
    few, many = (gradient_graph(build(n)) for n in (3, 9))
    bodies = [{f.signature.name for f in graph.library.function} for graph in (few, many)]
    assert len(bodies[1]) == len(bodies[0]) > 5
    grown = (len(many.node) - len(few.node)) / 6
    assert grown < 150, f"{grown} nodes a block in the outer graph"


@dataclasses.dataclass(frozen=True, eq=False)
class _Counting(Function):
    """`sin(x) / 2`, its evaluations and its vector-Jacobian products counted."""

    counts: dict
    shareable = False

    def __call__(self, weights, x):
        return tf.sin(x) / 2

    def linearise(self, weights, x):
        self.counts["g"] = self.counts.get("g", 0) + 1

        def vjp(u):
            self.counts["vjp"] = self.counts.get("vjp", 0) + 1
            return u * tf.cos(x) / 2

        return self(weights, x), vjp


class _Layer(layers.Identity):
    def __init__(self):
        super().__init__(dtype="float64")
        self.counting = _Counting({})

    @property
    def function(self):
        return self.counting


@pytest.mark.parametrize("n", [1, 4, 9])
@pytest.mark.parametrize("memory, g, vjps", [("Tape", 1, 1), ("Released", 1, 1),
                                             ("Recompute", 2, 1), ("Auto", 1, 1)])
def test_products_of_a_step(n, memory, g, vjps):
    """n products for the value, one for the Neumann gradient, whatever is kept."""
    layer = _Layer()
    layer.build((None, 3))
    assert type(layer).call is FunctionalLayer.call
    estimator = logdet.LogDet(logdet.Truncated(n), memory=getattr(logdet, memory)())
    value_and_gradients(estimator, layer, example([3]), 0)
    assert layer.counting.counts == {"g": g, "vjp": n + vjps}


@pytest.mark.parametrize("chunk_bytes", [1, 2 * 8 * 64, 3 * 8 * 64])
@pytest.mark.parametrize("gradient", [logdet.Neumann(), logdet.Series()])
@pytest.mark.parametrize("batch", [5, None], ids=["static", "unknown"])
def test_chunks_change_nothing(chunk_bytes, gradient, batch):
    """One, two and three examples at a time of five; float64, unequal cotangents."""
    net, x = built_branch([4, 2, 2]), example([4, 2, 2], 5)
    cotangent = tf.constant([0.3, -1.0, 0.0, 2.0, 1.0], tf.float64)
    results = []
    for memory in (logdet.Tape(), logdet.Recompute(chunk_bytes)):
        estimator = logdet.LogDet(logdet.Poisson(2.0, 2), gradient, memory, num_probes=2)
        run = tf.function(
            lambda x: value_and_gradients(estimator, net, x, 3, cotangent, y_weight=0.7),
            input_signature=[tf.TensorSpec([batch, 4, 2, 2], tf.float64)])
        results.append(flat(*run(x)))
    assert np.abs(results[0]).max() > 0.01
    np.testing.assert_allclose(results[1], results[0], rtol=1e-11, atol=1e-11)


def test_an_empty_batch():
    net = built_branch([3])
    for size in (None, 0):
        call = tf.function(lambda x: logdet.LogDet()(net, x, 0),
                           input_signature=[tf.TensorSpec([size, 3], tf.float64)])
        y, log_det = call(tf.zeros([0, 3], tf.float64))
        assert y.shape == (0, 3) and log_det.shape == (0,)


def test_peak_memory_against_the_batch():
    """A block in chunks keeps the activations of a chunk, however large the batch."""
    net = built_branch([4], hidden=512)
    hidden = 8 * 512  # bytes of one example's activation
    estimator = logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute(128 * hidden))
    few, many = (peak_memory(estimator, net, example([4], n)) for n in (256, 2048))
    assert (many - few) / (2048 - 256) < 0.2 * hidden, (few, many)
    whole = logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute(2 ** 30))
    assert peak_memory(whole, net, example([4], 2048)) > 2 * many


def test_auto_keeps_what_is_small_and_recomputes_what_is_not():
    """3 examples of 24 bytes are under the bound, 4000 are over it: two halves, each twice."""
    for n, evaluations in ((3, 1), (4000, 4)):
        layer = _Layer()
        layer.build((None, 3))
        value_and_gradients(logdet.LogDet(), layer, example([3], n), 0)
        assert layer.counting.counts["g"] == evaluations


def test_an_overridden_call_is_respected():
    """Not the function of the class it derives from: what Keras calls is what is inverted."""
    class Half(layers.InducedNormDense):
        def call(self, inputs):
            return 0.5 * super().call(inputs)

    layer = Half(3, 0.5, dtype="float64")
    layer.build((None, 3))
    x = example([3])
    np.testing.assert_allclose(logdet.LogDet()(layer, x, 0)[0], layer(x), rtol=1e-12)


def test_chunk_bytes_must_be_positive():
    with pytest.raises(ValueError, match="`chunk_bytes` must be at least 1, or None"):
        logdet.Recompute(chunk_bytes=0)


def test_branches_of_equal_layers_are_equal_functions():
    one, two = (functional(built_branch([3]))[0] for _ in range(2))
    assert one == two and hash(one) == hash(two) and one.shareable
    assert not functional(lambda x: x)[0].shareable
