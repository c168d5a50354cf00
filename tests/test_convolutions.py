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
    (lambda: layers.InducedNormConv1D(3, 3, padding="causal"), "`padding` must be 'same'"),
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
