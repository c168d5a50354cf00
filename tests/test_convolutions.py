"""Convolutions in one to three dimensions: products, adjoints, norms of the dense operator."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tests.test_layers import LONG, configuration, dense_operator, large
from tests.test_norms import best_of_starts, exact
from tfresflow import layers
from tfresflow.layers.bounds import upper_bound

INF = np.inf
CONVS = {1: layers.InducedNormConv1D, 2: layers.InducedNormConv2D, 3: layers.InducedNormConv3D}
PLAIN = {1: lambda *args, **kwargs: tf.nn.conv1d(*args, stride=1, **kwargs),
         2: lambda *args, **kwargs: tf.nn.conv2d(*args, strides=1, **kwargs),
         3: lambda *args, **kwargs: tf.nn.conv3d(*args, strides=[1] * 5, **kwargs)}


def conv(size, kernel_size, filters=3, channels=2, **kwargs):
    """Built, of a large kernel."""
    kwargs = {"kernel_initializer": large, "bias_initializer": "ones", "dtype": "float64", **kwargs}
    layer = CONVS[len(size)](filters, kernel_size, kwargs.pop("coeff", 0.9), **kwargs)
    layer.build((None, *size, channels))
    return layer


@pytest.mark.parametrize("size, channels, filters, kernel_size", [
    ((5, 6), 1, 6, 3), ((5, 6), 6, 1, 3), ((5, 6), 6, 6, 3), ((5, 6), 3, 3, 5),
    ((5, 6), 2, 6, (1, 3)), ((5, 6), 6, 2, (3, 1)), ((5, 6), 6, 2, 2), ((5, 6), 2, 6, (2, 3)),
    ((5, 6), 5, 7, 1), ((7,), 2, 6, 3), ((7,), 6, 2, 5), ((7,), 3, 5, 2), ((7,), 5, 2, 1),
    ((2, 4, 3), 2, 6, 3), ((2, 4, 3), 5, 1, (1, 3, 3)), ((2, 4, 3), 3, 4, (2, 3, 1)),
    ((2, 4, 3), 4, 5, 1)])
def test_every_way_to_convolve_is_the_convolution(size, channels, filters, kernel_size):
    """As matrix products or not: value, vector-Jacobian product, gradient of the kernel."""
    layer = conv(size, kernel_size, filters, channels, use_bias=False)
    x, u = example([*size, channels], 3), example([*size, filters], 3, seed=2)
    kernel = tf.convert_to_tensor(layer.kernel)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, kernel])
        expected = PLAIN[len(size)](x, kernel, padding="SAME")
        y, vjp = layer.function.linearise([kernel], x)
        weighted = tf.reduce_sum(vjp(u) * x)  # = <u, W x>
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(vjp(u), tape.gradient(expected, x, u), rtol=1e-12, atol=1e-12)
    want = tape.gradient(expected, kernel, u)
    np.testing.assert_allclose(tape.gradient(y, kernel, u), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(weighted, kernel), want, rtol=1e-12, atol=1e-12)


@pytest.mark.fast("size1-2", "size3-1", "size6-3", "size7-1")
@pytest.mark.parametrize("size, kernel_size", [
    ((9,), 3), ((9,), 2), ((2,), 5), ((6,), 1), ((3, 2, 4), 3), ((2, 3, 3), (3, 1, 2)),
    ((1, 2, 3), 3), ((2, 2, 2), 1)])
def test_the_norm_is_that_of_the_dense_operator(size, kernel_size):
    """And both ways of bounding it from above are."""
    layer = conv(size, kernel_size)
    layer.update_norm(LONG)
    matrix = dense_operator(layer, (*size, 2))
    norm = np.linalg.svd(matrix, compute_uv=False)[0]
    found = [norm, layer.measure_norm(LONG), layer.upper_bound()]
    np.testing.assert_allclose(found, 0.9, rtol=1e-6)
    circular = layer.function.circular_norm(layer.normalized_kernel().numpy())
    assert norm * (1 - 1e-9) <= circular <= 3 * norm


@pytest.mark.parametrize("size", [(20,), (3, 4, 3)])
def test_long_ones_are_bounded_by_circular_padding(size, monkeypatch):
    """What is too large to be decomposed."""
    monkeypatch.setattr("tfresflow.layers.bounds._LARGEST_DECOMPOSED", 4)
    monkeypatch.setattr("tfresflow.layers.bounds._LARGEST_GRAM", 4)
    layer = conv(size, 3)
    kernel = layer.normalized_kernel().numpy()
    got = upper_bound(layer.function, kernel, 2.0, 2.0)
    np.testing.assert_allclose(got, layer.function.circular_norm(kernel), rtol=1e-6)


@pytest.mark.fast(but=["2.5-1.5-size0", "2.5-1.5-size1"])
@pytest.mark.parametrize("size", [(5,), (2, 3, 2)])
@pytest.mark.parametrize("p, q", [(1, 1), (INF, INF), (1, 2), (1.5, INF), (2.5, 1.5)])
def test_any_orders(size, p, q):
    layer = conv(size, 3, domain=p, codomain=q, use_bias=False)
    layer.refresh_norm()
    matrix = dense_operator(layer, (*size, 2))
    if p == 1 or q == INF:
        np.testing.assert_allclose(exact(matrix, p, q), 0.9, rtol=1e-9)
    else:
        found = best_of_starts(matrix, p, q)
        assert 0.8 < found <= 0.9 * (1 + 1e-3) and found <= layer.upper_bound() <= 0.995


@pytest.mark.parametrize("size", [(6,), (3, 4, 4)])
def test_smaller_inputs_are_within_the_bound_and_larger_refused(size):
    layer = conv(size, 3)
    layer.update_norm(LONG)
    smaller, larger = (tuple(s + d for s in size) for d in (-1, 1))
    matrix = dense_operator(layer, (*smaller, 2))
    assert np.linalg.svd(matrix, compute_uv=False)[0] <= 0.9 + 1e-9
    with pytest.raises(ValueError, match="`inputs` must be no larger than what the layer was"):
        layer(example([*larger, 2]))
    assert conv(size, 1)(example([*larger, 2])).shape == [3, *larger, 3]


@pytest.mark.parametrize("size", [(4,), (2, 3, 2)])
def test_they_save_and_restore(size, tmp_path):
    layer = CONVS[len(size)](3, 3, 0.7, activation="relu")
    model = keras.Sequential([keras.Input((*size, 2)), layer])
    x = tf.cast(example([*size, 2]), tf.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert configuration(loaded.layers[0]) == configuration(layer)


@pytest.mark.parametrize("make, message", [
    (lambda: layers.InducedNormConv1D(3, 3, strides=2), r"`strides` must be \(1,\)"),
    (lambda: layers.InducedNormConv1D(3, 3, padding="causal"), "`padding` must be 'same' or"),
    (lambda: layers.InducedNormConv3D(3, 3, groups=3), "`groups` must be 1"),
    (lambda: layers.InducedNormConv3D(3, 3, dilation_rate=2), r"`dilation_rate` must be \(1, 1"),
    (lambda: layers.InducedNormConv1D(3, 3).build((None, None, 1)), "must have a known length"),
    (lambda: layers.InducedNormConv3D(3, 3).build((None, 2, None, 4, 1)), "known depth, height"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_channels_are_last_whatever_keras_is_set_to():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        assert layers.InducedNormConv2D(3, 3).data_format == "channels_last"
        with pytest.raises(ValueError, match="`data_format` must be 'channels_last'"):
            layers.InducedNormConv2D(3, 3, data_format="channels_first")
    finally:
        keras.config.set_image_data_format(before)


# On a torus -------------------------------------------------------------------------------------

AROUND = [((5, 6), 1, 6, 3), ((5, 6), 6, 1, 3), ((6, 4), 6, 6, 3), ((5, 6), 3, 3, 5),
          ((5, 6), 2, 6, (1, 3)), ((5, 6), 6, 2, 2), ((4, 6), 2, 6, (2, 4)), ((5, 6), 5, 7, 1),
          ((3, 3), 2, 2, 3), ((7,), 2, 6, 3), ((8,), 6, 2, 4), ((2, 4, 3), 2, 6, (2, 3, 3)),
          ((3, 4, 3), 5, 1, (1, 3, 2))]
every_torus = pytest.mark.parametrize("size, channels, filters, kernel_size", AROUND)


def around(size, kernel_size, filters, channels, **kwargs):
    return conv(size, kernel_size, filters, channels, padding="circular", **kwargs)


def by_shifts(kernel, x):
    """A circular convolution as a sum of shifted inputs, each times a matrix."""
    space = kernel.shape[:-2]
    axes = list(range(1, len(space) + 1))
    total = 0
    for place in np.ndindex(*space):
        shifts = [(k - 1) // 2 - i for i, k in zip(place, space)]
        total += tf.matmul(tf.roll(x, shifts, axes), tf.broadcast_to(
            kernel[place], [*x.shape[:-2], *kernel.shape[-2:]]))
    return total


@every_torus
def test_circular_convolutions(size, channels, filters, kernel_size):
    """Value, vector-Jacobian product and gradients of both, and the same again by a tape."""
    layer = around(size, kernel_size, filters, channels, use_bias=False)
    x, u = example([*size, channels], 3), example([*size, filters], 3, seed=2)
    kernel = tf.convert_to_tensor(layer.kernel)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, u, kernel])
        expected = by_shifts(kernel, x)
        y, vjp = layer.function.linearise([kernel], x)
        product = vjp(u)
        weighted = tf.reduce_sum(product * x)  # = <u, W x>
        squares = tf.reduce_sum(product ** 2), tf.reduce_sum(tape.gradient(expected, x, u) ** 2)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(product, tape.gradient(expected, x, u), rtol=1e-12, atol=1e-12)
    want = tape.gradient(expected, kernel, u)
    np.testing.assert_allclose(tape.gradient(y, kernel, u), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(weighted, kernel), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(weighted, u), expected, rtol=1e-12, atol=1e-12)
    for got, want in zip(*(tape.gradient(square, [u, kernel]) for square in squares)):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)


@every_torus
def test_the_circular_norm_is_that_of_the_dense_operator(size, channels, filters, kernel_size):
    """To 1e-10: what is kept, what is measured, the bound from above, and what `call` applies."""
    layer = around(size, kernel_size, filters, channels)
    kernel = layer.kernel.numpy()
    raw = layer.function([tf.constant(kernel)], tf.reshape(
        tf.eye(int(np.prod(size)) * channels, dtype=tf.float64), [-1, *size, channels]))
    norm = np.linalg.svd(tf.reshape(raw, [len(raw), -1]), compute_uv=False)[0]
    state = layer.norm.read(layer.norm_state())
    np.testing.assert_allclose(layer.norm.sigma(layer.function, state), norm, rtol=1e-10)
    np.testing.assert_allclose(layer.function.circular_norm(kernel), norm, rtol=1e-10)
    matrix = dense_operator(layer, (*size, channels))
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False)[0], 0.9, rtol=1e-10)
    np.testing.assert_allclose(layer.measure_norm(), 0.9, rtol=1e-10)
    np.testing.assert_allclose(layer.upper_bound(), 0.9, rtol=2e-9)


def test_the_gradient_of_the_circular_norm():
    """That of the dense operator's largest singular value, by differences."""
    layer = around((4, 5), 3, 3, 2)
    kernel, direction = layer.kernel.numpy(), np.random.RandomState(0).randn(3, 3, 2, 3)
    state = layer.norm.read(layer.norm_state())
    with tf.GradientTape() as tape:
        tape.watch(state.kernel)
        sigma = layer.norm.sigma(layer.function, state)
    got = np.sum(tape.gradient(sigma, state.kernel) * direction)
    above, below = (layer.function.circular_norm(kernel + step * direction)
                    for step in (1e-5, -1e-5))
    np.testing.assert_allclose(got, (above - below) / 2e-5, rtol=1e-8)


def test_the_circular_norm_follows_the_kernel():
    """Exactly, wherever the kernel goes, in a model that is loaded too, and in float32."""
    layer = around((4, 4), 3, 4, 2)
    for seed in range(3):
        layer.kernel.assign(3 * np.random.RandomState(seed).randn(3, 3, 2, 4))
        traced = tf.function(layer)
        traced(example([4, 4, 2]))
        matrix = dense_operator(layer, (4, 4, 2))
        np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False)[0], 0.9, rtol=1e-10)
    again = type(layer).from_config({**layer.get_config(), "kernel_initializer": "ones"})
    again.build((None, 4, 4, 2))
    again.set_weights(layer.get_weights())
    assert again.padding == "circular"
    np.testing.assert_array_equal(again(example([4, 4, 2])), layer(example([4, 4, 2])))
    single = around((4, 4), 3, 4, 2, dtype="float32", kernel_initializer="ones")
    np.testing.assert_allclose(single.measure_norm(), 0.9, rtol=1e-6)


@pytest.mark.parametrize("p, q", [(1, 1), (INF, INF), (1, 2), (2.5, 1.5)])
def test_any_orders_on_a_torus(p, q):
    layer, certified = (around((3, 4), 3, 3, 2, domain=p, codomain=q, use_bias=False, certified=c)
                        for c in (False, True))
    layer.refresh_norm()
    matrix = dense_operator(layer, (3, 4, 2))
    if p == 1 or q == INF:
        np.testing.assert_allclose(exact(matrix, p, q), 0.9, rtol=1e-9)
    else:
        np.testing.assert_allclose(best_of_starts(matrix, p, q), 0.9, rtol=1e-3)
        found = best_of_starts(dense_operator(certified, (3, 4, 2)), p, q)
        assert found <= certified.upper_bound() <= 0.995


@pytest.mark.parametrize("size, kernel_size", [((5, 6), 3), ((7,), 2), ((3, 4, 3), 3)])
def test_shifts_around_the_torus(size, kernel_size):
    layer, axes = around(size, kernel_size, 3, 2), list(range(1, len(size) + 1))
    x, shift = example([*size, 2]), list(range(1, len(size) + 1))
    np.testing.assert_allclose(layer(tf.roll(x, shift, axes)), tf.roll(layer(x), shift, axes),
                               rtol=1e-12, atol=1e-12)


def test_another_torus_is_refused():
    layer = around((4, 6), 3, 3, 2)
    for size in ((4, 5), (5, 6), (6, 4)):
        with pytest.raises(ValueError, match="`inputs` must be of the size that the layer was bui"):
            layer(example([*size, 2]))
    with pytest.raises(ValueError, match=r"`kernel_size` must not be larger than the torus, \(2,"):
        around((2, 4), 3, 3, 2)
    assert around((4, 4), 1, 3, 2)(example([5, 6, 2])).shape == [3, 5, 6, 3]
