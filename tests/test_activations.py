"""Activations and concatenations: slopes within their claims, linearisations against a tape."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tests.test_layers import LONG, large
from tfresflow import layers
from tfresflow.layers.orders import Order

ELEMENTWISE = ["ELU", "Identity", "LipSwish", "LipschitzCube", "Pila", "ReLU", "Sin", "Softplus",
               "Tanh"]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_slopes_are_within_the_claim(name):
    activation = getattr(layers, name)(dtype="float64")
    x = tf.linspace(tf.constant(-30.0, tf.float64), 30.0, 200001)
    activation.build(x.shape)
    betas = [-1.0, 0.5, 20.0] if name == "LipSwish" else [None]
    for beta in betas:
        if beta is not None:
            activation.raw_beta.assign(beta)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        slope = np.abs(tape.gradient(y, x)).max()
        assert 0.99 < slope <= activation.lipschitz + 1e-12, (beta, slope)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, np.inf])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_concatenation_has_lipschitz_constant_one_in_every_norm(name, p):
    """The norm of its slopes at x and -x on a dense grid: 1, exactly, and no more."""
    layer = (layers.CLipSwish(dtype="float64") if name == "LipSwish" else
             layers.Concatenated(getattr(layers, name)(dtype="float64"), dtype="float64"))
    layer.set_domain(Order(p))
    x = tf.linspace(tf.constant(-30.0, tf.float64), 30.0, 200001)[:, tf.newaxis]
    layer.build(x.shape)
    for beta in [-1.0, 0.5, 20.0] if name == "LipSwish" else [None]:
        if beta is not None:
            layer.activation.raw_beta.assign(beta)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            first, second = tf.unstack(layer(x), axis=1)
        slopes = np.concatenate([tape.gradient(y, x) for y in (first, second)], axis=1)
        largest = np.linalg.norm(slopes, p, axis=1).max()
        assert 1 - 1e-6 < largest <= layer.lipschitz + 1e-12


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0, np.inf])
def test_cpila_has_lipschitz_constant_one_in_every_norm(p):
    """On a fine grid; in the 2-norm 1.06 bounds the norm of the slopes, and hardly more."""
    layer = layers.CPila(dtype="float64")
    layer.set_domain(Order(p))
    x = tf.linspace(tf.constant(-6.0, tf.float64), 6.0, 1_200_001)[:, tf.newaxis]
    layer.build(x.shape)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        first, second = tf.unstack(layer(x), axis=1)
    slopes = np.concatenate([tape.gradient(y, x) for y in (first, second)], axis=1)
    largest = np.linalg.norm(slopes, p, axis=1).max()
    assert 0.94 < largest <= layer.lipschitz
    if p == 2:
        assert layer.constant == 1.06 and 1.0588 < 1.06 * largest < 1.0589


def test_pila_by_hand():
    """The identity above 0, a cubic times an exponential below, and nothing far below."""
    z = np.array([-1e30, -3.0, -0.7, -0.1, 0.0, 0.4, 1e6])
    below = np.maximum(np.minimum(z, 0), -100)
    want = np.maximum(z, 0) + (12.5 * below ** 3 - 5 * below ** 2 + below) * np.exp(5 * below)
    for got in (layers.Pila(dtype="float64")(z), layers.Pila(0.2, dtype="float64")(z + 0.2)):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-15)
    assert np.all(np.isfinite(layers.CPila()(tf.constant([[-1e30, 1e30]]))))


@pytest.mark.parametrize("name", ["MaxMin", "FullSort"])
def test_sorting_has_a_permutation_for_its_jacobian(name):
    layer, x = getattr(layers, name)(dtype="float64"), example([6], 5)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    jacobian = tape.batch_jacobian(y, x).numpy()
    assert set(np.unique(jacobian)) == {0.0, 1.0}
    np.testing.assert_array_equal(jacobian.sum(1), 1)
    np.testing.assert_array_equal(jacobian.sum(2), 1)
    if name == "FullSort":
        np.testing.assert_array_equal(y, np.sort(x, -1))
    else:
        pairs = np.reshape(x, [5, 3, 2])
        expected = np.stack([pairs.max(-1), pairs.min(-1)], -1).reshape(5, 6)
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("make", [
    layers.MaxMin, layers.FullSort, layers.CLipSwish, layers.CPila,
    lambda dtype: layers.Concatenated(layers.ELU(dtype=dtype), dtype=dtype),
    lambda dtype: layers.LipschitzConcatenation(layers.Branch(
        [layers.InducedNormDense(3, 0.9, dtype=dtype), layers.CLipSwish(dtype=dtype)]),
        dtype=dtype)])
def test_linearisations_of_layers_that_mix_channels(make):
    """Against a tape through the value, with the derivative of both for the weights."""
    layer, x = make(dtype="float64"), example([4], 5)
    layer.build(x.shape)
    weights = [tf.identity(w) for w in layer.effective_weights()]
    shape = layer.compute_output_shape(x.shape)
    u = example(shape[1:], 5, seed=3)
    results = []
    for by_hand in (True, False):
        with tf.GradientTape(persistent=True) as outer:
            outer.watch([x, *weights])
            if by_hand:
                y, vjp = layer.function.linearise(weights, x)
                product = vjp(u)
            else:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    y = layer.function(weights, x)
                product = tape.gradient(y, x, u)
            both = tf.reduce_sum(tf.sin(y)) + tf.reduce_sum(tf.cos(product))
        results.append([y, product, *outer.gradient(both, [x, *weights],
                                                    unconnected_gradients="zero")])
    assert tuple(results[0][0].shape) == tuple(shape)
    assert layer.function.output_shape(weights, (4,)) == tuple(shape[1:])
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_a_concatenation_of_branches_keeps_its_bound():
    """By the SVD of its Jacobian, at shares of 0.5, all to one side, all to the other."""
    linear = layers.InducedNormDense(5, 0.9, kernel_initializer=large, dtype="float64")
    layer = layers.LipschitzConcatenation(layers.Branch([linear, layers.Sin(dtype="float64")]),
                                          dtype="float64")
    x = 0.01 * example([4], 20)
    layer.build(x.shape)
    linear.update_norm(LONG)
    for raw in ([1.0, 1.0], [-5.0, 4.0], [6.0, -3.0]):
        layer.raw_shares.assign(raw)
        one, two = layer.shares()
        np.testing.assert_allclose(one ** 2 + two ** 2, 1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        norm = np.linalg.svd(tape.batch_jacobian(y, x), compute_uv=False).max()
        bound = layer.lipschitz_bound(0.9)
        assert 0.98 * bound < norm <= bound <= layer.lipschitz


def test_lipschitz_cube_by_hand():
    x = tf.constant([-2.0, -1.0, 0.5, 1.0, 3.0])
    np.testing.assert_allclose(layers.LipschitzCube()(x), [-4 / 3, -1 / 3, 0.5 ** 3 / 3, 1 / 3,
                                                           7 / 3], rtol=1e-6)


def plain_pila(x):
    below = tf.minimum(x, 0)
    return tf.nn.relu(x) + (12.5 * below ** 3 - 5 * below ** 2 + below) * tf.exp(5 * below)


@pytest.mark.parametrize("act", [getattr(layers, name) for name in ELEMENTWISE])
def test_slopes_and_curvatures(act):
    """What the linearisation says, and its derivative, against a tape through the value."""
    layer = act(dtype="float64")
    layer.build((None, 40))
    x, u = tf.reshape(tf.linspace(tf.constant(-4.0, tf.float64), 4.1, 40), [1, 40]), 0.7
    parameters = [tf.constant(1.3, tf.float64)] if act is layers.LipSwish else []
    plain = {layers.LipSwish: lambda x, raw: x * tf.sigmoid(tf.nn.softplus(raw) * x) / 1.1,
             layers.Pila: plain_pila}.get(act, lambda x: layer.function([], x))
    results = []
    for linearise in (layer.function.linearise, None):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, *parameters])
            if linearise is None:
                y = plain(x, *parameters)
                slope = u * tape.gradient(y, x)
            else:
                y, vjp = linearise(parameters, x)
                slope = vjp(u)
            both = tf.reduce_sum(y * tf.sin(x)) + tf.reduce_sum(slope * tf.cos(x))
        results.append([y, slope, *tape.gradient(both, [x, *parameters])])
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name, plain", [
    ("Sin", tf.sin), ("Tanh", tf.tanh), ("LipSwish", lambda x: x * tf.sigmoid(x) / 1.1)])
@pytest.mark.parametrize("frequency", [0.01, 5.0, 40.0])
def test_learned_frequencies(name, plain, frequency):
    """`f(w x) / w`, by itself and within a branch, and its derivatives, by w too."""
    layer = getattr(layers, name)(frequency=frequency, dtype="float64")
    linear = layers.InducedNormDense(3, 0.9, dtype="float64")
    g = keras.Sequential([layer, linear])
    g.build((None, 3))
    [raw] = layer.trainable_variables
    x = tf.concat([4 * example([3], 50), tf.zeros([1, 3], tf.float64)], axis=0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        w = tf.nn.softplus(raw.value)
        want = plain(w * x) / w
        alone, inside = layer(x), g(x)
    np.testing.assert_allclose(w, frequency, rtol=1e-5)
    np.testing.assert_allclose(alone, want, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(inside, linear(want), rtol=1e-10, atol=1e-13)
    for source in (x, raw.value):
        np.testing.assert_allclose(tape.gradient(alone, source), tape.gradient(want, source),
                                   rtol=1e-9, atol=1e-12)
    assert 0.4 < np.abs(tape.gradient(alone, x)).max() <= layer.lipschitz + 1e-12
    again = type(layer).from_config(layer.get_config())
    again.build(x.shape)
    np.testing.assert_allclose(again(x), alone, rtol=1e-12)


@pytest.mark.parametrize("frequency", [0, -1.0, np.nan, np.inf, "5"])
@pytest.mark.parametrize("kind", [layers.Sin, layers.Tanh, layers.LipSwish])
def test_a_frequency_that_cannot_be(kind, frequency):
    with pytest.raises(ValueError, match="`frequency` must be a positive number, or None. Rec"):
        kind(frequency=frequency)
