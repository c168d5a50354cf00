"""Labels and weights beside the rows of x: one for each, wherever they come in."""

import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tfresflow import FlowModel, logdet

N = 16
X = np.random.RandomState(0).randn(N, 2)


def of_toy_flow(dtype):
    return FlowModel(flows.toy_flow(nblocks=1, dims=(4,), dtype=dtype, log_det=logdet.Exact()))


@pytest.fixture(scope="module", params=["float32", "float64"])
def made(request):
    """Of both: what Keras would cast goes another way. Refuses all, so it is never trained."""
    model = of_toy_flow(request.param)
    model.compile("sgd")
    return model


def of_batch(method):
    return lambda y, w: method(X, y, w)


def entries(model):
    """Functions `(y, weights)` of what takes them, and what these are called there."""
    names = "x", "y", "sample_weight"
    parts = [f"validation_data[{i}]" for i in range(3)]
    return {
        "fit": (lambda y, w: model.fit(X, y, sample_weight=w, verbose=0), names),
        "split": (lambda y, w: model.fit(X, y, sample_weight=w, validation_split=0.5, verbose=0),
                  names),
        "evaluate": (lambda y, w: model.evaluate(X, y, sample_weight=w, verbose=0), names),
        "train_on_batch": (of_batch(model.train_on_batch), names),
        "test_on_batch": (of_batch(model.test_on_batch), names),
        "validation": (lambda y, w: model.fit(X, validation_data=(X, y, w), verbose=0), parts),
    }


ENTRIES = list(entries(of_toy_flow("float32")))


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_another_number_of_them_is_refused(made, entry, first):
    """Whether or not rows are to be started from."""
    made.initialized.assign(int(not first))
    call, (rows, y, weights) = entries(made)[entry]
    for shape in [(N + 36,), (N - 6,), (1,), (N, 2), ()]:
        message = (f"`{weights}` must be {N} numbers, one for each row of `{rows}`. "
                   f"Received: shape={shape}")
        with pytest.raises(ValueError) as caught:
            call(None, np.ones(shape))
        assert str(caught.value) == message
    for labels, shape in ((np.ones(N - 6), (N - 6,)), (list(range(N + 1)), (N + 1,)),
                          ({"a": np.ones(N), "b": np.ones([1, N])}, (1, N))):
        with pytest.raises(ValueError) as caught:
            call(labels, np.ones(N))
        assert str(caught.value) == (f"`{y}` must be {N} labels, one for each row of `{rows}`. "
                                     f"Received: shape={shape}")
    assert not int(made.optimizer.iterations) and int(made.initialized) == (not first)
    made.initialized.assign(0)


def test_weights_of_any_kind_weigh_the_same():
    """Where a batch is given, and where Keras makes batches."""
    model, weights = of_toy_flow("float32"), [float(i) for i in range(N)]
    model.compile("sgd")
    want = np.average(-model.log_prob(X), weights=weights)
    for given in (weights, tf.constant(weights), np.array(weights)[:, None]):
        for found in (model.test_on_batch(X, sample_weight=given, return_dict=True),
                      model.evaluate(X, sample_weight=given, return_dict=True, verbose=0)):
            assert found["nll"] == pytest.approx(want, rel=1e-5)


def pipeline(weights, rows):
    """Two batches, of which no type says how many weights they have; those of the first fit."""
    right = np.ones(N) if weights.ndim == 1 else np.ones([N, 1])
    x = tf.TensorSpec([rows, 2], tf.float32)
    w = tf.TensorSpec([None] * weights.ndim, tf.float32)
    return tf.data.Dataset.from_generator(
        lambda: iter([(X, X, right), (X, X, weights)]), output_signature=(x, x, w))


@pytest.mark.parametrize("rows, message", [
    (None, "`sample_weight` must be one number for each row of `x`"),
    (N, r"\[1\] is not compatible with expected shape \[16\]")], ids=["unknown", "known"])
def test_batches_of_a_pipeline(rows, message):
    """A single weight would be that of all rows; what starts a flow says it without a graph."""
    model = of_toy_flow("float32")
    model.compile("sgd")
    for weights in (np.ones(1), np.ones([N + 1, 1])):
        with pytest.raises(ValueError, match="^`sample_weight` must be .* Received: shape="):
            model.fit(pipeline(weights, rows), verbose=0)
        assert not int(model.initialized)
    model.initialize(X)
    for method in (model.fit, model.evaluate):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            method(pipeline(np.ones(1), rows), verbose=0)
    typed = tf.data.Dataset.from_tensors((X, X, np.ones(N - 6)))
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="^`sample_weight` must be 16 numbers, one for each r"):
            method(typed, verbose=0)


def test_weights_of_rows_to_start_from():
    with pytest.raises(ValueError, match="`weights` must be 16 numbers, one for each row of `x`"):
        of_toy_flow("float32").initialize(X, np.ones([2, N // 2]))


def test_what_needs_compile_says_so():
    """As in Keras, and before a weight is set; what does not need it works."""
    model = of_toy_flow("float32")
    for method in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"You must call `compile\(\)` before using the mod"):
            method(X)
    assert not int(model.initialized)
    np.testing.assert_allclose(model.predict(X, verbose=0), model.log_prob(X), rtol=1e-5)
