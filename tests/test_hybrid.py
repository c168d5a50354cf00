"""Models with a head: density and classes from one pass through the flow."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tests.gradients import assert_equal, traced
from tests.registry import EXACT, double, example, image
from tfresflow import FlowModel, autodiff, logdet, optimizers
from tfresflow.batches import threads
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.training.hybrid import features_of
from train.classes import calibration_error
from train.main import main

RULE = {**EXACT, "log_det": logdet.LogDet(logdet.Truncated(4))}
FLOWS = {
    "toy": lambda: flows.toy_flow(nblocks=2, dims=(6, 6), **RULE),
    "image": lambda: image(nblocks=(1, 1), **{"log_det": RULE["log_det"]}),
    "factor_out": lambda: image(nblocks=(1, 1), factor_out=True, fc_end=False,
                                log_det=RULE["log_det"]),
}


def batch(flow, n=5):
    x = example(flow.event_shape, n)
    return tf.sigmoid(x), np.arange(n) % 3


def by_tape(model, rows, weights, part):
    """Losses, `-log p(x)`, what is right, and the gradient of the weighted sum of the losses."""
    x, labels = model.rows_flow.apart(rows)
    with tf.GradientTape() as tape:
        nll = model.compute_nll(rows, part)
        logits = model.head(features_of(model.flow, x) if len(model.head.inputs) > 1
                            else features_of(model.flow, x)[0])
        entropy = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        losses = model.weight * nll / (np.log(2) * np.prod(x.shape[1:])) + entropy
        total = tf.reduce_sum(weights * losses)
    right = np.argmax(logits, axis=1) == labels.numpy()
    return losses, tape.gradient(total, model.trainable_values(),
                                 unconnected_gradients="zero"), nll, right.astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize("name", FLOWS)
def test_every_way_is_the_tape(name, micro_batches, monkeypatch):
    """Losses, scores and derivatives by all weights, of examples that weigh differently."""
    monkeypatch.setattr(threads, "are_prepared", lambda: micro_batches == 2)
    flow = FLOWS[name]()
    head, weights = flows.scale_head(flow, 3, width=8), double([1.0, 2.0, 0.0, 1.0, 3.0])
    part, want = Part(as_seed(4), tf.constant(0, tf.int64)), None
    for way in (autodiff.Stored(), autodiff.Recomputed(chunk_bytes=64), autodiff.Released()):
        model = FlowModel(flow, head=head, weight=0.3, autodiff=way, micro_batches=micro_batches)
        rows = model.as_weights(batch(flow))
        want = want or by_tape(model, rows, weights, part)
        got = traced(lambda rows: model._sums(rows, weights, part), rows)
        assert_equal(got, want)
        assert all(np.abs(g).max() > 0 for g in got[1])


@pytest.mark.slow
def test_features_of_all_scales():
    """What each scale ends with, before it is squeezed, factored out or flattened."""
    flow = image(nblocks=(1, 1, 1), factor_out=True, squeeze_first=False, fc_end=False)
    x, _ = batch(flow)
    assert [f.shape[1:] for f in features_of(flow, x)] == [[4, 4, 1], [2, 2, 2], [1, 1, 4]]
    squeezed = image(nblocks=(1,), squeeze_first=True)
    assert [f.shape[1:] for f in features_of(squeezed, x)] == [[2, 2, 4]]
    toy = FLOWS["toy"]()
    x, _ = batch(toy)
    np.testing.assert_allclose(features_of(toy, x)[0], toy.forward(x))


def small(weight=0.5, **kwargs):
    flow = flows.toy_flow(nblocks=2, dims=16, seed=0)
    head = keras.Sequential([keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])
    model = FlowModel(flow, head=head, weight=weight, **kwargs)
    model.compile(optimizers.Adam(1e-2))
    return model


def clusters(n=300):
    rng = np.random.RandomState(0)
    y = rng.randint(0, 3, n)
    return (3 * np.eye(3)[y][:, :2] + 0.5 * rng.randn(n, 2)).astype("float32"), y


def test_fit_learns_both():
    x, y = clusters()
    model = small()
    before = model.evaluate(x, y, verbose=0, return_dict=True)
    history = model.fit(x, y, epochs=15, validation_split=0.1, verbose=0).history
    assert set(history) == {f"{v}{n}" for v in ("", "val_") for n in ("loss", "nll", "accuracy")}
    after = model.evaluate(x, y, verbose=0, return_dict=True)
    assert after["accuracy"] > 0.95 and after["nll"] < before["nll"] - 0.3
    chosen = model.classify(x).numpy().argmax(axis=1)
    assert np.mean(chosen == y) == pytest.approx(after["accuracy"])
    assert after["nll"] == pytest.approx(-np.mean(model.log_prob(x)), rel=1e-4)
    np.testing.assert_allclose(model.predict(x, verbose=0), model.log_prob(x), rtol=1e-4, atol=1e-4)
    assert model.sample(4, seed=0).shape == [4, 2]


def test_classes_alone_need_no_log_determinant():
    x, y = clusters()
    model = small(weight=0.0)
    history = model.fit(x, y, epochs=10, verbose=0).history
    assert set(history) == {"loss", "accuracy"} and history["accuracy"][-1] > 0.9
    want = keras.losses.sparse_categorical_crossentropy(y, model.classify(x))
    assert model.evaluate(x, y, verbose=0)[0] == pytest.approx(np.mean(want), rel=1e-4)


@pytest.mark.slow
def test_two_replicas_and_a_file(mirrored, tmp_path):
    x, y = clusters(40)
    keras.utils.set_random_seed(0)
    one = small()
    keras.utils.set_random_seed(0)
    with mirrored.scope():
        two = small()
    for model in (one, two):
        model.fit(x, y, batch_size=10, shuffle=False, verbose=0)
    for a, b in zip(one.trainable_variables, two.trainable_variables):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-3, atol=1e-5)
    one.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.classify(x), one.classify(x))


def test_what_is_wrong_is_named():
    x, y = clusters(10)
    model, flow = small(), flows.toy_flow(nblocks=1, dims=4)
    conditional = flows.toy_flow(nblocks=1, dims=4, context_shape=2)
    head = keras.layers.Dense(3)
    for call, words in [
            (lambda: model.fit(x), "`y` must be the labels"),
            (lambda: model.fit(x, y + 0.5), "whole numbers from 0 to 2"),
            (lambda: model.fit(x, y + 1), "whole numbers from 0 to 2"),
            (lambda: model.fit(x, y[:4]), "one row for each of x, 10"),
            (lambda: FlowModel(flow, weight=2.0), "`weight` must be 1 without a head"),
            (lambda: FlowModel(flow, head=head, weight=-1), "`weight` must not be negative"),
            (lambda: FlowModel(flow, head=keras.layers.Dense(1)), "`head` must give logits"),
            (lambda: FlowModel(flow, head="softmax"), "`head` must be a Keras layer"),
            (lambda: FlowModel(conditional, head=head), "`head` must be None for a flow that"),
            (lambda: FlowModel(flow).classify(x), "`head` must be given to FlowModel")]:
        with pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value), words


def test_calibration_error():
    """A confidence of 0.75 that is right half of the time, and one of 1 that always is."""
    confidence = np.array([0.75, 0.75, 1.0, 1.0])
    assert calibration_error(confidence, np.array([1, 0, 1, 1])) == pytest.approx(0.125)


TINY = ("--data=digits", "--nbits=4", "--nblocks=1-1", "--idim=4", "--n_fc_blocks=1",
        "--fc_idim=8", "--cdim=8", "--batchsize=32", "--niters=4", "--val_every=2",
        "--n_sample_images=20")


@pytest.mark.slow
@pytest.mark.parametrize("task, found", [
    (["--task=hybrid", "--hybrid_weight=0.5"], {"accuracy", "bits_per_dim", "calibration_error"}),
    (["--task=classification"], {"accuracy", "calibration_error"}),
    pytest.param(["--conditional"], {"bits_per_dim"}, marks=pytest.mark.exhaustive)])
def test_command_line(task, found, tmp_path):
    assert main(["x", *TINY, *task, f"--workdir={tmp_path}"]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert found <= set(metrics) and ("bits_per_dim" in metrics) == ("bits_per_dim" in found)
    assert metrics["num_test_examples"] == 180 and metrics["reconstruction_error"] < 1e-3
    assert (tmp_path / "samples.png").exists()
    if "--task=hybrid" in task:  # which goes on
        assert main(["x", *TINY, *task, f"--workdir={tmp_path}", "--niters=6"]) == 0
