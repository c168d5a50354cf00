"""Models of `p(x | c)`: what Keras and users give them, in all forms, and what they refuse."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import bijectors
from bijectors import flows
from tests.gradients import loss_of
from tests.registry import conditional
from tfresflow import FlowLayer, FlowModel, autodiff, layers, logdet, optimizers, serving


def small_model(**kwargs):
    flow = flows.toy_flow(nblocks=1, dims=8, context_shape=[], seed=0,
                          context_network=keras.layers.Embedding(3, 4))
    model = FlowModel(flow, **kwargs)
    model.compile(optimizers.Adam(1e-2))
    return model


def labelled(n=60):
    rng = np.random.RandomState(0)
    c = rng.randint(0, 3, n)
    return (c[:, None] + rng.randn(n, 2)).astype("float32"), c


def given_as(kind, x, c):
    """Batches of 20 in all the forms that Keras and tf.data have."""
    slices = tf.data.Dataset.from_tensor_slices
    parts = [(x[i:i + 20], c[i:i + 20]) for i in range(0, len(x), 20)]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(parts)

        def __getitem__(self, i):
            return parts[i]

    return {"pair": (x, c), "dictionary": {"x": x, "context": c},
            "data set": slices((x, c)).batch(20), "nested": slices(((x, c),)).batch(20),
            "of dictionaries": slices({"x": x, "context": c}).batch(20),
            "weighted": slices(((x, c), c, np.ones(len(x)))).batch(20),
            "generator": (part for part in parts), "PyDataset": Batches()}[kind]


@pytest.mark.fast("pair", "data set", "of dictionaries")
@pytest.mark.parametrize("kind", [
    "pair", "dictionary", "data set", "nested", "of dictionaries", "weighted", "generator",
    "PyDataset"])
def test_what_fit_takes(kind):
    """The same weights and scores, whatever holds data and contexts."""
    x, c = labelled()
    model, other = small_model(), small_model()
    for layer in (*model.flow_layers, *other.flow_layers):
        if isinstance(layer, keras.layers.Embedding):
            layer.embeddings.assign(np.arange(12.0).reshape(3, 4) / 12)
    model.fit(x, c, batch_size=20, shuffle=False, verbose=0)
    other.fit(given_as(kind, x, c), batch_size=20 if kind in ("pair", "dictionary") else None,
              shuffle=False, verbose=0)
    for a, b in zip(model.trainable_variables, other.trainable_variables):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    want = float(-tf.reduce_mean(model.log_prob(x, context=c)))
    got = model.evaluate(given_as(kind, x, c), verbose=0)[0]
    assert got == pytest.approx(want, rel=1e-5)


def numbers_model(**kwargs):
    """Of contexts of one number, without a network."""
    model = FlowModel(flows.toy_flow(nblocks=1, dims=8, context_shape=1, seed=0), **kwargs)
    model.compile(optimizers.Adam(1e-2))
    return model


@pytest.mark.slow
def test_contexts_of_one_number():
    """With an axis for it, or without; in micro-batches; DataFrames and series; whole numbers."""
    x, c = labelled()
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": c})
    models = [numbers_model(micro_batches=parts) for parts in (1, 1, 1, 3)]
    for model, given in zip(models, [(x, c[:, None]), (x, c), (frame[["a", "b"]], frame["c"]),
                                     {"x": frame[["a", "b"]], "context": frame[["c"]]}]):
        model.fit(given, shuffle=False, batch_size=20, epochs=2, verbose=0)
        for a, b in zip(models[0].trainable_variables, model.trainable_variables):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    flow = model.flow
    want = model.log_prob(x, context=c[:, None])
    np.testing.assert_array_equal(model.log_prob(frame[["a", "b"]], context=c), want)
    np.testing.assert_allclose(bijectors.distribution(flow.with_log_det(logdet.Exact()), c)
                               .log_prob(x), want, rtol=1e-6)
    assert bijectors.distribution(flow, c).batch_shape == [60]
    for one in (0.5, [0.5], np.full(60, 0.5)):
        np.testing.assert_array_equal(model.log_prob(x, context=one),
                                      model.log_prob(x, context=np.full([60, 1], 0.5)))
    assert model.sample(3, context=0.5).shape == [3, 2]
    assert model.sample(3, context=[0.5, 1.0]).shape == [3, 2, 2]
    with pytest.raises(ValueError, match=r"must be \[..., 1\]. Received: shape=\(60, 2\)"):
        model.log_prob(x, context=x)


@pytest.mark.parametrize("wrong", [-1, 3, 0.5])
def test_what_is_no_label_is_refused(wrong):
    """Keras takes -1 for the last label, and 0.5 for 0."""
    model, (x, c) = small_model(), labelled(6)
    c = np.append(c[:5], wrong)
    words = f"`context` must be whole numbers from 0 to 2, .* Received: {wrong}"
    for call in (lambda: model.fit((x, c)), lambda: model.log_prob(x, context=c),
                 lambda: model.fit(tf.data.Dataset.from_tensor_slices((x, c)).batch(3)),
                 lambda: model.predict((x, c)), lambda: model.sample(2, context=wrong)):
        with pytest.raises(ValueError, match=words):
            call()
    assert not any(layer.started for layer in model.flow_layers if hasattr(layer, "started"))


def test_predict_sample_and_validation():
    x, c = labelled()
    model = small_model()
    history = model.fit((x, c), validation_split=0.2, validation_freq=1, verbose=0).history
    assert set(history) == {"loss", "nll", "val_loss", "val_nll"}
    np.testing.assert_allclose(model.predict((x, c), verbose=0), model.log_prob(x, context=c),
                               rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model((x, c)), model.log_prob(x, context=c), rtol=1e-4, atol=1e-5)
    samples = model.sample(7, seed=0, context=[0, 1, 2])
    assert samples.shape == [7, 3, 2] and model.sample(7, context=2).shape == [7, 2]
    log_prob = model.log_prob(samples[:, 2], context=2)
    np.testing.assert_allclose(log_prob, model.log_prob(samples[:, 2], context=[2] * 7))
    assert model.train_on_batch((x, c)) != model.train_on_batch(x, c)  # a step apart


@pytest.mark.slow
def test_saved_exported_and_as_a_layer(tmp_path):
    x, c = labelled(8)
    model = small_model()
    model.fit((x, c), verbose=0)
    want = model.log_prob(x, context=c)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.models.load_model(tmp_path / "model.keras").log_prob(x, context=c), want)
    serving.export(model, tmp_path / "served")
    served = tf.saved_model.load(tmp_path / "served")
    labels = tf.constant(c, tf.float32)
    np.testing.assert_allclose(served.log_prob(x, labels, seed=0)["log_prob"], want, rtol=1e-5,
                               atol=1e-5)
    assert served.sample(4, labels[:3], seed=0)["x"].shape == [4, 3, 2]
    layer = FlowLayer(model.flow)
    inputs, context = keras.Input([2]), keras.Input([])
    network = keras.Model([inputs, context], layer(inputs, context=context))
    z, log_det = network([tf.constant(x), labels])
    np.testing.assert_allclose(layer.base.log_prob(z) + log_det, want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_two_replicas(mirrored):
    """As one device: contexts go with their rows."""
    x, c = labelled(12)
    one = small_model()
    with mirrored.scope():
        two = small_model()
    for model in (one, two):
        for layer in model.flow_layers:
            if isinstance(layer, keras.layers.Embedding):
                layer.embeddings.assign(np.arange(12.0).reshape(3, 4) / 12)
        model.fit((x, c), batch_size=6, shuffle=False, verbose=0)
    for a, b in zip(one.trainable_variables, two.trainable_variables):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def message(call):
    with pytest.raises(ValueError) as error:
        call()
    return str(error.value)


def test_what_is_wrong_is_named():
    flow, model = conditional("toy"), small_model()
    x, c = labelled(6)
    one = tf.zeros([3, 2], tf.float64)
    slices = tf.data.Dataset.from_tensor_slices
    for call, words in [
            (lambda: flow.forward_and_log_det(one), "`context` must be given: [N, 2]"),
            (lambda: flow.inverse_alone(one), "`context` must be given: [N, 2]"),
            (lambda: flow.forward_and_log_det(one, context=one[:, :1]), "`context` must be [N, 2"),
            (lambda: flow.forward_and_log_det(one, context=one[:2]), "one row for each of x, 3"),
            (lambda: flows.toy_flow(nblocks=1, dims=4).forward_and_log_det(one, context=one),
             "`context` must not be given"),
            (lambda: model.fit(x), "`x` must be (x, context)"),
            (lambda: model.fit((x, c[:4])), "`x: context` must have one row for each of x, 6"),
            (lambda: model.fit({"x": x, "c": c}), "keys 'x' and 'context'"),
            (lambda: model.fit((x, np.where(c == 1, np.nan, c))), "`x: context` must be finite"),
            (lambda: model.log_prob(x), "`x` must be (x, context)"),
            (lambda: model.log_prob(np.ones([2, 3])), "`x` must be (x, context)"),  # as if joined
            (lambda: model.evaluate(tf.data.Dataset.from_tensors(np.ones([2, 3]))),
             "`x` must be (x, context)"),
            (lambda: model.sample(2), "`context` must be given"),
            (lambda: flows.toy_flow(context_network=keras.layers.Dense(2)), "`context_shape` must"),
            (lambda: flows.toy_flow(context_shape=[]), "`context_network` must be given for"),
            (lambda: flows.toy_flow(context_shape=2, context_network=tf.abs),
             "`context_network` must be a Keras layer"),
            (lambda: flows.toy_flow(context_shape=[], context_network=keras.layers.Dense(3)),
             "`context_network` must give vectors or maps, [N, ..., K]"),
            (lambda: model.fit((x, c[:, None])), "`x: context` must be [N]. Received"),
            (lambda: model.fit((x, c), validation_data=x), "`validation_data` must be (x, c"),
            (lambda: model.fit((x + np.float64(1e9), c)), "`x` loses its digits in float32"),
            (lambda: numbers_model().fit((x, c + 1e9)), "`x: context` loses its digits"),
            (lambda: flow.branches()["0/dense0"](one), "`context` must be given"),
            (lambda: layers.FiLM([3, 3, 1]).build([None, 2, 2, 1]), "multiples of those of x"),
            (lambda: bijectors.Given(bijectors.ActNorm([2]), [1.0]), "`flow` must be a cond"),
            (lambda: autodiff.gradients(flow, loss_of, one), "`x` must be (x, context)")]:
        assert words in message(call), words
    for data, words in [(slices(x), "`x` must be (x, context)"),
                        (slices((x, x)), "`x: context` must be [N]"),
                        (slices({"x": x, "c": c}), "`x` must have the keys 'x' and 'context'")]:
        assert message(lambda: model.fit(data.batch(3))).startswith(words)  # not "in user code"
