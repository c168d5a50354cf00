"""Norms follow their weights, whoever changes these: in every loop, and for every order."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras

from bijectors import norm_report
from bijectors.flows import toy_flow
from tests.registry import REGISTRY, build
from tfresflow import FlowModel, layers
from tfresflow.functions import upkeep
from tfresflow.functions.branch import norm_layers
from tfresflow.layers.fingerprint import fingerprint

tfb, tfd = tfp.bijectors, tfp.distributions
X = 3 + 0.5 * np.random.RandomState(0).randn(64, 2)
ORDERS = {"2": 2, "learned": [2, layers.LearnedOrder(1.5, 2.5), 2], "mixed": [math.inf, 1, 1.5]}


def small(orders=2):
    return toy_flow(nblocks=1, dims=(8, 8), orders=orders, seed=0, dtype="float64")


def nll(flow, x=X):
    z, log_det = flow.forward_and_log_det(tf.constant(x), seed=1)
    return tf.reduce_mean(0.5 * tf.reduce_sum(z ** 2, 1) - log_det)


def check(flow, limit=0.9 * 1.005):
    report = norm_report(flow)
    assert report.certified and report.largest <= limit, str(report)


def steps(flow, optimizer):
    """A function that takes a step and returns the loss before it."""
    variables = [v for layer in flow.layers for v in layer.trainable_variables]
    optimizer.build(variables)

    def step():
        with tf.GradientTape() as tape:
            loss = nll(flow)
        gradients = tape.gradient(loss, [v.value for v in variables],
                                  unconnected_gradients="zero")
        optimizer.apply_gradients(zip(gradients, variables))
        return loss

    return step


def vectors(flow):
    return [v.numpy() for layer in norm_layers(flow.layers) for v in layer.vectors]


@pytest.mark.fast("2")
@pytest.mark.parametrize("orders", ORDERS)
def test_a_loop_of_ones_own_keeps_norms(orders):
    flow = small(ORDERS[orders])
    step = tf.function(steps(flow, keras.optimizers.Adam(0.05)))
    losses = [float(step()) for _ in range(40)]
    with upkeep.kept():  # what the last step left: no one has looked since
        assert max(float(layer.measure_norm()) for layer in norm_layers(flow.layers)) > 0.8
    z = flow.forward(tf.constant(X))
    check(flow)
    np.testing.assert_allclose(flow.inverse(tf.identity(z)), X, rtol=0, atol=1e-9)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_an_eager_loop_keeps_norms():
    flow = small()
    step = steps(flow, keras.optimizers.Adam(0.05))
    losses = [float(step()) for _ in range(8)]
    check(flow)
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_loop_in_the_graph_keeps_norms():
    flow = small()
    step = steps(flow, keras.optimizers.Adam(0.05))

    @tf.function
    def run():
        return tf.while_loop(lambda i, _: i < 30, lambda i, _: (i + 1, step()),
                             (0, tf.constant(0.0, tf.float64)), parallel_iterations=1)

    assert float(run()[1]) < 0.5 * float(nll(small()))
    check(flow)


@pytest.mark.slow
def test_variational_inference_of_tfp_keeps_norms():
    flow = small()
    base = tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64), tf.ones(2, tf.float64))
    surrogate = tfd.TransformedDistribution(base, tfb.Invert(flow))
    losses = tfp.vi.fit_surrogate_posterior(
        lambda z: -0.5 * tf.reduce_sum(((z - [2., -1.]) / [0.3, 0.5]) ** 2, -1), surrogate,
        tf_keras.optimizers.Adam(0.05), num_steps=40, sample_size=16, seed=1)
    assert losses[-1] < 0.5 * losses[0]
    check(flow)


@pytest.mark.slow
def test_replicas_keep_the_same_norms(mirrored):
    with mirrored.scope():
        flow = small()
        optimizer = keras.optimizers.SGD(0.1)
        step = steps(flow, optimizer)
    run = tf.function(lambda: mirrored.run(step))
    for _ in range(5):
        run()
    mirrored.run(lambda: flow.forward(tf.constant(X)))
    check(flow)
    for layer in norm_layers(flow.layers):
        for variable in layer.weights:
            one, other = mirrored.experimental_local_results(variable.value)
            np.testing.assert_array_equal(one.numpy(), other.numpy())


@pytest.mark.fast("InvertibleResidual_dense", "image_flow_squeeze_first")
@pytest.mark.parametrize("name", [n for n in REGISTRY if "Residual" in n or "_flow" in n])
def test_weights_that_were_replaced_get_their_norms(name):
    """Forward and inverse are of one function, and nothing moves once it is up to date."""
    flow, x = build(name)
    random = np.random.RandomState(0)
    for layer in norm_layers(flow.layers):
        layer.kernel.assign(0.5 * random.randn(*layer.kernel.shape))
    z = tf.function(flow.forward)(x)
    after = vectors(flow)
    np.testing.assert_allclose(flow.inverse(tf.identity(z)), x, rtol=0, atol=1e-8)
    for now, before in zip(vectors(flow), after):
        np.testing.assert_array_equal(now, before)
    for layer in norm_layers(flow.layers):
        assert float(layer.measure_norm()) <= 1.01 * layer.coeff


@pytest.mark.parametrize("among", [1, 30])
def test_a_replaced_kernel_where_singular_values_lie_close(among):
    """To the tolerance of the iteration at once, also where many others are as they were."""
    iterate = layers.PowerIteration(rtol=1e-12, max_steps=100_000)
    equal = [layers.InducedNormDense(3, 0.7, use_bias=False, power_iteration=iterate,
                                     dtype="float64") for _ in range(among)]
    random = np.random.RandomState(0)
    for layer in equal:
        layer.build([None, 3])
    for _ in range(10):
        p, q = (np.linalg.qr(random.randn(3, 3))[0] for _ in range(2))
        equal[0].kernel.assign(q @ np.diag([2, 1.98, 0.5]) @ p)
        upkeep.catch_up(equal)
        assert np.linalg.norm(equal[0](np.eye(3)), 2) == pytest.approx(0.7, abs=1e-9)


def test_weights_that_did_not_change_keep_their_norms():
    flow = small()
    before = vectors(flow)
    tf.function(flow.forward)(tf.constant(X))
    flow.inverse(tf.constant(X))
    copy = small()
    for new, old in zip(copy.layers, flow.layers):
        new.set_weights(old.get_weights())
    copy.forward(tf.constant(X))
    for now, then in zip(vectors(flow) + vectors(copy), before * 2):
        np.testing.assert_array_equal(now, then)


def test_a_layer_by_itself_follows_its_weights():
    layer = layers.InducedNormDense(4, 0.9, dtype="float64")
    layer.build([None, 3])
    layer.kernel.assign(np.eye(3, 4))
    x = np.eye(3)
    assert np.linalg.norm(layer(x), 2) == pytest.approx(0.9, rel=1e-3)
    layer.kernel.assign(np.diag([5.0, 4.0, 3.0]) @ np.eye(3, 4)[::-1])
    assert np.linalg.norm(layer(x), 2) == pytest.approx(0.9, rel=1e-3)


@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_stateless_calls_hand_back_what_moved(wrap):
    layer = layers.InducedNormDense(4, 0.9, dtype="float64")
    layer.build([None, 3])
    trained = [5 * v.numpy() + 0.1 for v in layer.trainable_variables]
    state = [tf.constant(v.numpy()) for v in layer.non_trainable_variables]
    before, x = vectors_of(layer), tf.constant(X[:, :1] @ np.ones((1, 3)))
    y, moved = wrap(lambda x: layer.stateless_call([*map(tf.constant, trained)], state, x))(x)
    for now, then in zip(vectors_of(layer), before):
        np.testing.assert_array_equal(now, then)
    layer.set_weights(trained + [np.asarray(v) for v in moved])
    np.testing.assert_array_equal(layer(x), y)
    for now, then in zip(vectors_of(layer), moved):
        np.testing.assert_array_equal(now, then)


def vectors_of(layer):
    return [v.numpy() for v in layer.vectors]


def test_files_without_marks_are_read():
    layer = layers.InducedNormDense(4, 0.9, dtype="float64")
    layer.build([None, 3])
    store = {}
    layer.save_own_variables(store)
    del store[str(len(store) - 1)]
    twin = layers.InducedNormDense(4, 0.9, dtype="float64")
    twin.build([None, 3])
    twin.load_own_variables(store)
    np.testing.assert_allclose(twin(np.eye(3)), layer(np.eye(3)), rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [[3, 5], [4, 4], [3, 3, 2, 1]])
def test_fingerprints_tell_any_change(dtype, shape):
    kernel = tf.random.stateless_normal(shape, [0, 1], dtype=dtype)
    mark = int(fingerprint(kernel)[0])
    assert int(tf.function(fingerprint)(kernel)[0]) == mark
    both = fingerprint(tf.stack([kernel, kernel[::-1]]), count=2)
    assert int(both[0]) == mark != int(both[1])
    changed = kernel.numpy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.inf, dtype=dtype)
    assert int(fingerprint(tf.constant(changed))[0]) != mark
    order = tf.constant([1.5], dtype)
    assert int(fingerprint(kernel, [order])[0]) != mark


def test_fit_trains_on_norms_of_its_weights():
    """A step of `fit` does not look, so the first one must not find old norms."""
    flow = small()
    model = FlowModel(flow)
    model.compile(keras.optimizers.SGD(0.0))
    model.initialize(tf.constant(X))
    for layer in norm_layers(flow.layers):
        layer.kernel.assign(4 * layer.kernel)
    model.train_on_batch(X)
    with upkeep.kept():
        assert max(float(layer.measure_norm()) for layer in norm_layers(flow.layers)) <= 0.905
