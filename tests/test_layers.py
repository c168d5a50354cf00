"""Norm-constrained layers against the SVD of the dense operator."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tfresflow import layers

LONG = layers.PowerIteration(num_steps=3000)


def dense_operator(layer, event_shape):
    """The matrix of the linear part of what the layer does, `[D_in, D_out]`."""
    size = int(np.prod(event_shape))
    basis = tf.reshape(tf.eye(size, dtype=tf.float64), [size, *event_shape])
    return tf.reshape(layer(basis) - layer(tf.zeros_like(basis)), [size, -1]).numpy()


def configuration(layer):
    """`get_config()`, without what Keras notes of the shapes that inner layers were built with."""
    def plain(value):
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k != "build_config"}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return plain(layer.get_config())


def large(shape, dtype=None):
    return 3 * keras.random.normal(shape, seed=3, dtype=dtype)


def conv(kernel_size, event_shape, **kwargs):
    layer = layers.InducedNormConv2D(3, kernel_size, kernel_initializer=large, dtype="float64",
                                     bias_initializer="ones", **kwargs)
    layer.build((None, *event_shape))
    tf.function(layer.update_norm)(LONG)
    return layer


@pytest.mark.fast("2-size2", "1-size1")
@pytest.mark.parametrize("size", [(4, 5), (7, 7), (1, 3)])
@pytest.mark.parametrize("kernel_size", [1, 2, 3, (5, 2)])
def test_conv_norm_is_that_of_the_dense_operator(size, kernel_size):
    event_shape = (*size, 2)
    layer = conv(kernel_size, event_shape, coeff=0.9)
    norm = np.linalg.svd(dense_operator(layer, event_shape), compute_uv=False)[0]
    np.testing.assert_allclose(norm, 0.9, rtol=1e-6)
    np.testing.assert_allclose(tf.function(layer.measure_norm)(LONG), norm, rtol=1e-6)


def test_smaller_images_are_within_the_bound_and_larger_refused():
    layer = conv(3, (6, 6, 2), coeff=0.9)
    for size in [(5, 6), (3, 3), (1, 1)]:
        norm = np.linalg.svd(dense_operator(layer, (*size, 2)), compute_uv=False)[0]
        assert norm <= 0.9 + 1e-9, (size, norm)
    with pytest.raises(ValueError, match=r"`inputs` must be no larger .*\(7, 6\)"):
        layer(example([7, 6, 2]))
    with pytest.raises(ValueError, match="`inputs` must be no larger"):
        conv(3, (1, 1, 2))(example([2, 1, 2]))
    assert conv(1, (6, 6, 2))(example([9, 9, 2])).shape == [3, 9, 9, 3]


@pytest.mark.parametrize("units", [1, 4, 9])
def test_dense_norm(units):
    layer = layers.InducedNormDense(units, 0.7, kernel_initializer=large, dtype="float64")
    layer.build((None, 5))
    layer.update_norm(layers.PowerIteration(num_steps=500))
    norm = np.linalg.svd(dense_operator(layer, (5,)), compute_uv=False)[0]
    np.testing.assert_allclose(norm, 0.7, rtol=1e-9)


def test_a_small_kernel_is_left_alone():
    layer = layers.InducedNormDense(3, kernel_initializer=lambda shape, dtype: 0.01 * large(
        shape, dtype), dtype="float64", use_bias=False)
    x = example([5])
    np.testing.assert_allclose(layer(x), x @ layer.kernel.value, rtol=1e-12)


def test_kernel_is_never_overwritten_and_gradient_goes_through_sigma():
    layer = layers.InducedNormDense(4, 0.5, kernel_initializer=large, dtype="float64",
                                    use_bias=False)
    layer.build((None, 3))
    layer.update_norm(layers.PowerIteration(num_steps=500))
    before, x = layer.kernel.numpy(), example([3])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2)
    gradient = tape.gradient(loss, layer.kernel.value)
    np.testing.assert_array_equal(layer.kernel.numpy(), before)
    # The loss does not change with the length of the kernel: the gradient is orthogonal to it.
    assert np.abs(gradient).max() > 0.01
    np.testing.assert_allclose(np.sum(gradient * before), 0, atol=1e-9)


@pytest.mark.parametrize("policy", [layers.PowerIteration(num_steps=3),
                                    layers.PowerIteration(rtol=1e-6, max_steps=500)])
def test_warm_start(policy):
    """Updates go on from where they were: the estimate only improves."""
    layer = layers.InducedNormDense(30, 0.9, kernel_initializer=large, dtype="float64",
                                    power_iteration=policy)
    layer.build((None, 30))
    top = np.linalg.svd(layer.kernel.numpy(), compute_uv=False)[0]
    errors = []
    for _ in range(30):
        layer.update_norm()
        errors.append(top - float(tf.reduce_sum(
            layer.u * layer.function.product(layer.kernel.value, tf.convert_to_tensor(layer.v)))))
    assert min(errors) > -1e-9 and np.all(np.diff(errors) <= 1e-9)
    assert errors[-1] < 1e-3 * top


def test_call_does_not_move_the_vectors():
    layer = layers.InducedNormDense(4, kernel_initializer=large)
    x = tf.ones([2, 3])
    layer(x)
    u = layer.u.numpy()
    np.testing.assert_array_equal(layer(x), layer(x))
    np.testing.assert_array_equal(layer.u.numpy(), u)


@pytest.mark.fast(but=["<lambda>5"])
@pytest.mark.parametrize("make", [
    lambda: layers.InducedNormDense(3, 0.7, activation="relu",
                                    power_iteration=layers.PowerIteration(num_steps=4)),
    lambda: layers.InducedNormConv2D(3, 3, 0.7, use_bias=False), lambda: layers.LipSwish(beta=2.0),
    layers.ELU, layers.Softplus, layers.LipschitzCube, layers.ReLU, layers.Identity, layers.Sin,
    layers.Tanh, layers.MaxMin, layers.FullSort, lambda: layers.CLipSwish(beta=2.0),
    lambda: layers.Concatenated(layers.ELU()),
    lambda: layers.LipschitzConcatenation(layers.Branch(
        [layers.InducedNormConv2D(3, 3, 0.7), layers.CLipSwish()]), learned=False)])
def test_layers_save_and_restore(make, tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 2)), make()])
    x = tf.cast(example([4, 4, 2]), tf.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert configuration(loaded.layers[0]) == configuration(model.layers[0])
    for got, want in zip(loaded.weights, model.weights):  # u and v too
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("make, message", [
    (lambda: layers.InducedNormDense(3, 1.2), r"`coeff` must be in \(0, 1\). Received: coeff=1.2"),
    (lambda: layers.Concatenated(layers.MaxMin()), r"`activation` must be an elementwise layer"),
    (lambda: layers.MaxMin().build((None, 3)), r"`input_shape` must have an even number"),
    (lambda: layers.InducedNormConv2D(3, 3, strides=2), r"`strides` must be \(1, 1\)"),
    (lambda: layers.InducedNormConv2D(3, 3, padding="valid"), r"`padding` must be 'same'"),
    (lambda: layers.InducedNormConv2D(3, 3).build((None, None, 4, 1)), r"height and width"),
    (lambda: layers.PowerIteration(num_steps=0), r"`num_steps` must be at least 1"),
    (lambda: layers.PowerIteration(num_steps=2.5), r"`num_steps` must be at least 1, a whole"),
    (lambda: layers.PowerIteration(max_steps=None), r"`max_steps` must be at least 1, a whole"),
    (lambda: layers.PowerIteration(rtol=-1.0), r"`rtol` must not be negative"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.fast("policy0")
@pytest.mark.parametrize("policy", [layers.PowerIteration(num_steps=3), layers.PowerIteration()])
def test_norms_updated_together_are_those_updated_alone(policy):
    """Many small layers as one operator: by count to the last digits, by tolerance no worse."""
    def make():
        made = [layers.InducedNormDense(units, power_iteration=policy, dtype="float64",
                                        kernel_initializer=keras.initializers.RandomNormal(seed=i))
                for i, units in enumerate((4, 4, 5, 4, 4))]
        for layer in made:
            layer.build((None, 3))
            layer.u.assign(tf.ones_like(layer.u))
            layer.v.assign(tf.ones_like(layer.v))
        return made

    together, alone = make(), make()
    layers.InducedNormDense.update_norms(together)
    for layer in alone:
        layer.update_norm()
    for a, b in zip(together, alone):
        exact = np.linalg.svd(a.kernel.numpy(), compute_uv=False)[0]
        sigma = [float(tf.reduce_sum(layer.u @ tf.transpose(layer.kernel) * layer.v))
                 for layer in (a, b)]
        assert sigma[1] - 1e-12 <= sigma[0] <= exact + 1e-12
        if policy.num_steps:
            np.testing.assert_allclose(a.v, b.v, rtol=1e-10)


def test_norm_follows_plain_keras_training():
    """In a model that holds no flow, the optimizer keeps the bound, and a constraint as well."""
    x = example([2], 64, seed=0)
    model = keras.Sequential([
        layers.InducedNormDense(8, coeff=0.9, kernel_constraint="non_neg", dtype="float64"),
        layers.InducedNormDense(1, coeff=0.9, dtype="float64")])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x, 10 * tf.reduce_sum(x, axis=1, keepdims=True), epochs=10, verbose=0)
    norms = [float(layer.measure_norm()) for layer in model.layers]
    assert max(norms) < 0.9 + 1e-3, norms
    assert tf.reduce_min(model.layers[0].kernel) >= 0
