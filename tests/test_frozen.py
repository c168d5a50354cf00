"""Layers that are frozen stay so, in copies and files and whatever they are in."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tests.registry import build, every_flow, example
from tfresflow import FlowLayer, FlowModel


def plane():
    return flows.toy_flow(nblocks=2, dims=(5,), seed=0, dtype="float64")


def again(thing):
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(thing))


@every_flow
def test_law_frozen_layers_stay_frozen(name):
    """Each second one of a flow, in what Keras saves, a deep copy, and a pickle's parts."""
    flow, _ = build(name)
    for layer in flow.layers[::2]:
        layer.trainable = False
    want = [layer.trainable for layer in flow.layers]
    for made in (again(flow), copy.deepcopy(flow)):
        assert [layer.trainable for layer in made.layers] == want
        assert len(made.trainable_variables) == len(flow.trainable_variables)


@pytest.mark.parametrize("whole", [True, False])
def test_a_frozen_model_is_loaded_frozen(whole, tmp_path):
    model = FlowModel(plane())
    model.initialize(example([2], 50))
    frozen = model if whole else model.flow_layers[0]
    frozen.trainable = False
    count = len(model.trainable_variables)
    model.compile("sgd")
    model.save(tmp_path / "m.keras")
    for made in (keras.models.load_model(tmp_path / "m.keras"), keras.models.clone_model(model),
                 copy.deepcopy(model)):
        assert len(made.trainable_variables) == count < len(model.weights)
        assert made.trainable == (not whole)
    if whole:
        made.trainable = True
        assert len(made.trainable_variables) == len(FlowModel(plane()).trainable_variables)


def test_a_frozen_flow_layer(tmp_path):
    """By argument and by attribute; in a model of Keras's, and in its file."""
    for layer in (FlowLayer(plane(), trainable=False), FlowLayer(plane())):
        layer.trainable = False
        x = keras.Input([2], dtype="float64")
        model = keras.Model(x, keras.layers.Dense(1, dtype="float64")(layer(x)[0]))
        assert len(model.trainable_variables) == 2
        model.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        assert len(loaded.trainable_variables) == 2
    said = FlowLayer(plane(), trainable=False)
    assert not any(inner.trainable for inner in said.flow.layers)


@pytest.mark.parametrize("fitted", [True, False])
def test_data_outside_the_support_is_named_whenever_it_comes(fitted):
    """Before a step of a flow that is trained already, too."""
    x = np.abs(example([2], 20)) + 0.1
    bad = np.where(np.arange(20)[:, None] == 3, -1.0, x)
    model = FlowModel(flows.tabular_flow(2, nblocks=1, dims=(5,), supports={0: "positive"},
                                         dtype="float64"))
    model.compile("sgd")
    if fitted:
        model.fit(x, verbose=0)
    else:
        model.initialize(x)
    before = model.get_weights()
    for train in (lambda: model.fit(bad, verbose=0), lambda: model.train_on_batch(bad)):
        with pytest.raises(ValueError, match="column 0 of `x` must be inside its support"):
            train()
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isneginf(model.log_prob(tf.constant(bad))[3])
