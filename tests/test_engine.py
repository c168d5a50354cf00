"""What the engine promises without a clock: how often things are traced, run and kept."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import InvertibleResidual
from bijectors.flows import image_flow, toy_flow
from tests.registry import example
from tests.test_logdet import built_branch, flat, peak_memory, value_and_gradients
from tfresflow import layers, logdet
from tfresflow.functions.branch import PureLayer, functionalize
from tfresflow.functions.function import Function, Scale


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


@pytest.mark.fast("<lambda>0")
@pytest.mark.parametrize("build", [
    lambda n: toy_flow(nblocks=n, dims=(7, 7), seed=0),
    lambda n: image_flow([4, 4, 1], nblocks=(n,), idim=9, n_fc_blocks=1, fc_idim=3, seed=0)])
def test_equal_blocks_are_traced_once(build):
    """Six blocks more add calls to the graph, and not one function."""
    few, many = (gradient_graph(build(n)) for n in (3, 9))
    bodies = [{f.signature.name for f in graph.library.function} for graph in (few, many)]
    assert len(bodies[1]) == len(bodies[0]) > 3
    grown = (len(many.node) - len(few.node)) / 6
    assert grown < 100, f"{grown} nodes a block in the outer graph"


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
    assert type(layer).call is PureLayer.call
    estimator = logdet.LogDet(logdet.Truncated(n), memory=getattr(logdet, memory)())
    value_and_gradients(estimator, layer, example([3]), 0)
    assert layer.counting.counts == {"g": g, "vjp": n + vjps}


def test_products_in_the_plane():
    """The Jacobian itself takes two products, and then n costs nothing."""
    for n in (2, 9):
        layer = _Layer()
        layer.build((None, 2))
        estimator = logdet.LogDet(logdet.Truncated(n), memory=logdet.Tape())
        value_and_gradients(estimator, layer, example([2]), 0)
        assert layer.counting.counts == {"g": 1, "vjp": 2 + 1}


class _Tilted(layers.Identity):
    """Of a function that says no derivative: a tape finds it."""

    function = property(lambda self: _Tape())


@dataclasses.dataclass(frozen=True)
class _Tape(Function):
    def __call__(self, weights, x):
        return tf.sin(x[..., ::-1]) * x


@pytest.mark.parametrize("make, shape", [
    (layers.LipSwish, [4]), (layers.ELU, [4]), (layers.MaxMin, [4]), (layers.FullSort, [4]),
    (layers.CLipSwish, [3]), (_Tilted, [4]),
    (lambda **k: layers.InducedNormDense(5, activation="tanh", **k), [4]),
    (lambda **k: layers.InducedNormDense(5, **k), [2, 4]),
    (lambda **k: layers.InducedNormConv2D(3, 3, **k), [4, 5, 1]),
    (lambda **k: layers.InducedNormConv2D(1, (3, 1), **k), [4, 5, 3]),
    (lambda **k: layers.InducedNormConv2D(2, 2, **k), [4, 5, 3]),
    (lambda **k: layers.LipschitzConcatenation(keras.Sequential(
        [layers.InducedNormDense(3, **k), layers.LipSwish(**k)]), **k), [4])])
def test_forward_products_are_adjoint_to_backward_ones(make, shape):
    """`<u, J t> = <J^T u, t>`, and both have the same derivative with respect to x."""
    layer = make(dtype="float64")
    layer.build((None, *shape))
    x, t = example(shape), example(shape, seed=1)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        function, weights = functionalize(layer)
        y, jvp = function.linearise_forward(weights, x)
        u = tf.cos(tf.stop_gradient(y))
        forms = [tf.reduce_sum(u * jvp(t)),
                 tf.reduce_sum(t * function.linearise(weights, x)[1](u))]
    np.testing.assert_allclose(y, function(weights, x), rtol=1e-13)
    assert abs(float(forms[0])) > 1e-3
    np.testing.assert_allclose(*forms, rtol=1e-12)
    got, want = (tape.gradient(form, x, unconnected_gradients="zero") for form in forms)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.fast("ADA", "DA", "A", "ES")
@pytest.mark.parametrize("kinds", ["ADA", "DAD", "AAD", "DA", "A", "DAAD", "ADTA", "ES"])
def test_scalar_factors_are_moved_into_linear_maps(kinds):
    """Activation, Dense, dense with Tanh, ELU, Softplus: the composition is that of the layers."""
    make = {"A": lambda: layers.LipSwish(beta=0.7, dtype="float64"),
            "D": lambda: layers.InducedNormDense(3, bias_initializer="ones", dtype="float64"),
            "T": lambda: layers.InducedNormDense(3, activation="tanh", dtype="float64"),
            "E": lambda: layers.ELU(dtype="float64"),
            "S": lambda: layers.Softplus(dtype="float64")}
    net = keras.Sequential([make[kind]() for kind in kinds])
    net.build((None, 3))
    x, variables = example([3]), [v.value for v in net.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        function, weights = functionalize(net)
        y, vjp = function.linearise(weights, x)
        product, want = vjp(x), net(x)
        got_and_want = tf.reduce_sum(y * x), tf.reduce_sum(want * x)
    np.testing.assert_allclose(y, want, rtol=1e-13)
    np.testing.assert_allclose(function(weights, x), want, rtol=1e-13)
    got, want = (tape.gradient(t, variables) for t in got_and_want)
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    with tf.GradientTape() as tape:
        tape.watch(x)
        target = tf.reduce_sum(net(x) * tf.stop_gradient(x))
    np.testing.assert_allclose(product, tape.gradient(target, x), rtol=1e-11)


def test_factors_cost_the_activations_nothing():
    """Between dense layers a LipSwish is a bare swish: no factor is left in the composition."""
    net = keras.Sequential([layers.LipSwish(), layers.InducedNormDense(4), layers.LipSwish(),
                            layers.InducedNormDense(3)])
    net.build((None, 3))
    function, _ = functionalize(net)
    assert [isinstance(f, Scale) for f, _ in function.members] == [True, *[False] * 4]


@pytest.mark.fast("static-gradient0-1536")
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


@pytest.mark.fast("2-released")
@pytest.mark.parametrize("memory, static", [
    (logdet.Tape(), False), (logdet.Released(), False), (logdet.Recompute(), False),
    (logdet.Recompute(), True)], ids=["tape", "released", "recompute", "recompute-static"])
@pytest.mark.parametrize("kernel", [None, 2, 3])
def test_a_batch_of_none_and_of_one(kernel, memory, static):
    """A worker's share of the last batch, in float32: what it adds to the sums, and its shape."""
    event, layer, size = (([3], layers.InducedNormDense, []) if kernel is None else
                          ([4, 4, 2], layers.InducedNormConv2D, [kernel]))
    net = keras.Sequential([layer(16, *size), layers.LipSwish(), layer(event[-1], *size)])
    block = InvertibleResidual(net, event, logdet.LogDet(logdet.Truncated(3), memory=memory))

    def run(block, n, static=True):
        def everything(x):
            z, log_det = block.forward_and_log_det(x, seed=0)
            both = value_and_gradients(lambda net, x, seed: block.forward_and_log_det(x, seed),
                                       net, x, 0, y_weight=1.0)
            return z, block.inverse_alone(z), log_det, *both

        spec = tf.TensorSpec([n if static else None, *event])
        return tf.function(everything, input_signature=[spec])(0.5 * tf.ones([n, *event]))

    z, x, log_det, _, (dx, *dweights) = run(block, 0, static)
    assert z.shape == x.shape == dx.shape == (0, *event) and log_det.shape == (0,)
    for d, weight in zip(dweights, net.trainable_variables, strict=True):
        np.testing.assert_array_equal(d, np.zeros(weight.shape))
    z, x, *rest = run(block, 1, static)
    assert z.shape == (1, *event) and np.abs(z - 0.5).max() > 0.01
    np.testing.assert_allclose(x, np.full([1, *event], 0.5), atol=1e-4)
    plain = block.with_log_det(logdet.LogDet(logdet.Truncated(3), memory=logdet.Tape()))
    for a, b in zip(tf.nest.flatten(rest), tf.nest.flatten(run(plain, 1)[2:]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_an_empty_batch():
    net = built_branch([3])
    for size in (None, 0):
        call = tf.function(lambda x: logdet.LogDet()(net, x, 0),
                           input_signature=[tf.TensorSpec([size, 3], tf.float64)])
        y, log_det = call(tf.zeros([0, 3], tf.float64))
        assert y.shape == (0, 3) and log_det.shape == (0,)


@pytest.mark.slow
@pytest.mark.allocator
def test_peak_memory_against_the_batch():
    """A block in chunks keeps the activations of a chunk, however large the batch."""
    net = built_branch([4], hidden=512)
    hidden = 8 * 512  # bytes of one example's activation
    estimator = logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute(128 * hidden))
    # Both so many chunks that as many of them as can run at a time do.
    few, many = (peak_memory(estimator, net, example([4], n)) for n in (1024, 8192))
    assert (many - few) / (8192 - 1024) < 0.2 * hidden, (few, many)
    whole = logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute(2 ** 30))
    assert peak_memory(whole, net, example([4], 8192)) > 2 * many


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
    with pytest.raises(ValueError, match="`chunk_bytes` must be at least 1, a whole number"):
        logdet.Recompute(chunk_bytes=0)


def test_branches_of_equal_layers_are_equal_functions():
    one, two = (functionalize(built_branch([3]))[0] for _ in range(2))
    assert one == two and hash(one) == hash(two) and one.shareable
    assert not functionalize(lambda x: x)[0].shareable
