"""What `fit` and `evaluate` are given: floats of any size, generators, weights without labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tests.test_model import compiled, data, toy_model
from tfresflow import FlowModel


@pytest.mark.slow
def test_floats_of_another_size_are_cast():
    """As Keras casts arrays, wherever they come in."""
    x = data(64)
    wide = x.numpy().astype("float64")
    batches = tf.data.Dataset.from_tensor_slices(wide).batch(32)
    for given in (wide, batches):
        model, same = toy_model(), toy_model()
        for each in (model, same):  # Adam would make steps of gradients that are rounding errors
            each.compile(keras.optimizers.SGD(1e-2, global_clipnorm=1.0))
        model.fit(given, epochs=1, shuffle=False, verbose=0)
        same.fit(x, epochs=1, shuffle=False, verbose=0)
        np.testing.assert_allclose(model.log_prob(wide), same.log_prob(x), rtol=1e-5, atol=1e-5)
    flow = flows.toy_flow(nblocks=1, dims=(4,), dtype="float64", seed=0)
    compiled(FlowModel(flow)).fit(x, epochs=1, verbose=0)
    assert FlowModel(flow).log_prob(x.numpy()).dtype == tf.float64


def test_a_generator_loses_no_batch():
    seen, parts = [], [data(32, seed) for seed in range(3)]

    class Seen(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model._last_batch[0].numpy())

    model = compiled(toy_model())
    model.fit(((part,) for part in parts), epochs=1, verbose=0, callbacks=[Seen()])
    np.testing.assert_array_equal(np.stack(seen), np.stack(parts))
    assert int(model.initialized) == 1


def test_evaluate_weighs_examples():
    x, model = data(64).numpy(), compiled(toy_model())
    nll = -model.log_prob(x).numpy()
    weights = np.linspace(0, 1, 64, dtype="float32")
    got = model.evaluate(x, sample_weight=weights, batch_size=64, verbose=0, return_dict=True)
    np.testing.assert_allclose(got["nll"], np.average(nll, weights=weights), rtol=1e-5)


@pytest.mark.slow
def test_validation_weighs_examples():
    x, weights = data(64).numpy(), np.linspace(0, 1, 64, dtype="float32")
    for validation in ((x, None, weights), (x, np.zeros(64), weights)):
        model = compiled(toy_model())
        logs = model.fit(x, epochs=1, batch_size=64, verbose=0, validation_data=validation).history
        nll = -model.log_prob(x).numpy()
        np.testing.assert_allclose(logs["val_nll"], np.average(nll, weights=weights), rtol=1e-5)
        assert abs(nll.mean() / logs["val_nll"][0] - 1) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"run_eagerly": True}, {"steps_per_execution": 3}])
def test_however_steps_are_executed_they_are_the_same(how):
    weights = []
    for own in ({}, how):
        model = toy_model()
        model.compile(keras.optimizers.SGD(0.05, global_clipnorm=1.0), **own)
        model.fit(data(200), batch_size=64, epochs=2, shuffle=False, verbose=0)
        assert int(model.optimizer.iterations.numpy()) == 8  # the last one of each epoch is short
        weights.append([w.numpy() for w in model.trainable_weights])
    for got, want in zip(*weights):
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-6)
