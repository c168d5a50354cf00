"""Flows as a part of Keras models of one's own."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors.flows import toy_flow
from tests.test_upkeep import X, check, nll, small
from tfresflow import FlowLayer, FlowModel, logdet


class Own(keras.Model):
    """A model as users write it: a flow in an attribute, a training step."""

    def __init__(self, flow):
        super().__init__(dtype="float64")
        self.flow = flow

    def call(self, x):
        return self.flow(x) if isinstance(self.flow, FlowLayer) else self.flow.forward(x)

    def train_step(self, x):
        flow = self.flow if isinstance(self.flow, FlowLayer) else self.flow.forward_and_log_det
        with tf.GradientTape() as tape:
            z, log_det = flow(tf.cast(x, tf.float64))
            loss = tf.reduce_mean(0.5 * tf.reduce_sum(z ** 2, 1) - log_det)
        if self.trainable_variables:
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"nll": loss}


def fit(model, flow, loss=None, y=None):
    """Trains, and looks at what comes out."""
    before = float(nll(flow))
    model.compile(keras.optimizers.Adam(0.05), loss=loss)
    model.fit(X, y, epochs=25, batch_size=32, verbose=0)
    assert float(nll(flow)) < 0.5 * before
    check(flow)


def square(_, z):
    return 0.5 * tf.reduce_sum(z ** 2, -1)


def minus(_, log_density):
    return -log_density


@pytest.mark.slow
def test_trains_in_a_model_of_ones_own():
    layer = FlowLayer(small())
    model = Own(layer)
    assert len(model.trainable_variables) == len(layer.flow.trainable_variables) > 0
    fit(model, layer.flow)


@pytest.mark.slow
def test_trains_in_a_functional_model_and_is_saved(tmp_path):
    inputs = keras.Input([2], dtype="float64")
    layer = FlowLayer(small())
    z, log_det = layer(inputs)
    assert z.shape == (None, 2) and log_det.shape == (None,) and z.dtype == "float64"
    model = keras.Model(inputs, [z, log_det])
    fit(model, layer.flow, [square, minus], [X, X[:, 0]])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    for got, want in zip(loaded(X), model(X)):
        np.testing.assert_array_equal(got, want)
    other = FlowLayer(small(), name=layer.name)
    twin = keras.Model(inputs, other(inputs))
    twin.load_weights(tmp_path / "model.weights.h5")
    for got, want in zip(twin(X), model(X)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_trains_in_a_sequential_by_a_loss_of_its_own():
    layer = FlowLayer(small(), loss_weight=1.0)
    frozen = keras.layers.Dense(2, kernel_initializer="identity", trainable=False, dtype="float64")
    fit(keras.Sequential([frozen, layer]), layer.flow)


@pytest.mark.slow
def test_a_flow_model_trains_as_a_layer():
    flow = small()
    inputs = keras.Input([2], dtype="float64")
    outputs = FlowModel(flow)(inputs)
    assert outputs.shape == (None,)
    fit(keras.Model(inputs, outputs), flow, minus, X[:, 0])


def test_what_it_says_is_what_the_flow_says():
    layer = FlowLayer(small(), seed=5)
    z, log_det = layer(X, seed=3)
    for got, want in zip((z, log_det), layer.flow.forward_and_log_det(X, seed=3)):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(layer(X)[1], layer(X)[1])
    drawn = FlowLayer(small().with_log_det(logdet.LogDet(logdet.Poisson())), seed=5)
    assert np.any(drawn(X, training=True)[1] != drawn(X, training=True)[1])
    np.testing.assert_allclose(layer.inverse(z), X, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        layer.log_prob(X, seed=3),
        log_det - 0.5 * tf.reduce_sum(z ** 2, 1) - np.log(2 * np.pi), rtol=1e-10)
    assert layer.sample(4, seed=0).shape == [4, 2]


@pytest.mark.parametrize("train", [True, False])
def test_a_flow_that_keras_does_not_see_is_named(train):
    model = Own(small())
    model.compile("adam")
    with pytest.warns(UserWarning, match="FlowLayer.*trainable=False") as record:
        model.fit(X, epochs=1, verbose=0) if train else model(X)
    [seen] = [w for w in record if "FlowLayer" in str(w.message)]
    assert seen.filename == __file__


def test_a_flow_that_is_seen_or_frozen_is_not_named():
    frozen = small()
    for layer in frozen.layers:
        layer.trainable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Own(FlowLayer(small()))(X)
        Own(frozen)(X)
        small().forward(tf.constant(X))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
def test_half_precision_is_refused_where_it_is_asked_for(dtype):
    with pytest.raises(ValueError, match=f"`dtype` must be float32 or float64.*dtype={dtype}"):
        toy_flow(nblocks=1, dtype=dtype)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        with pytest.raises(ValueError, match=f"set_dtype_policy.*dtype={dtype}"):
            toy_flow(nblocks=1)
    finally:
        keras.config.set_dtype_policy(policy)
    with pytest.raises(ValueError, match=f"`dtype` must .*dtype={dtype}"):
        FlowModel(small(), dtype=dtype)
