"""What `fit`, `evaluate` and `predict` are given: taken as it is, or refused by its name."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from bijectors import flows
from tfresflow import FlowModel, logdet


def model(d=3, dtype="float32", regularizer=None, **kwargs):
    flow = flows.tabular_flow([d], nblocks=1, dims=(4,), seed=0, dtype=dtype,
                              log_det=logdet.LogDet(logdet.Truncated(2)))
    made = FlowModel(flow, eval_log_det=logdet.Exact(), **kwargs)
    made.compile(keras.optimizers.SGD(1e-2))
    return made


def rows(n=40, d=3):
    return np.random.RandomState(0).randint(-8, 8, [n, d])


@pytest.fixture(scope="module")
def made():
    """One for all types: what is compiled for one serves the others."""
    return model()


def after(made, x):
    """Weights after an epoch, and log-densities, on everything that a model is given x for."""
    if not made.optimizer.built:
        made.optimizer.build(made.trainable_variables)
        made.start = [v.numpy() for v in (*made.variables, *made.optimizer.variables)]
    for v, value in zip((*made.variables, *made.optimizer.variables), made.start, strict=True):
        v.assign(value)
    assert not int(made.initialized)
    made.fit(x, shuffle=False, batch_size=20, verbose=0)
    made.train_on_batch(x)
    scores = [made.evaluate(x, batch_size=20, verbose=0), made.test_on_batch(x),
              made.predict(x, batch_size=20, verbose=0), made.predict_on_batch(x),
              made.log_prob(x), made(x)]
    return [w.numpy() for w in made.weights], scores


@pytest.fixture(scope="module")
def want(made):
    return after(made, rows().astype("float32"))


def assert_same(got, want):
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


@pytest.mark.fast("int64")
@pytest.mark.parametrize("kind", [
    lambda x: x.astype("int64"), lambda x: x.astype("int8"), lambda x: x.astype("float64"),
    lambda x: x.astype("float16"), lambda x: x.astype("float32").tolist(), tf.constant,
    lambda x: pd.DataFrame(x, columns=list("abc")), lambda x: x.astype(">f4"),
    lambda x: pd.DataFrame(x).convert_dtypes(), lambda x: tf.cast(x, tf.bfloat16),
    lambda x: tf.cast(x, tf.bfloat16).numpy(), lambda x: x.astype(object)],
    ids=["int64", "int8", "float64", "float16", "list", "tensor", "DataFrame", "big endian",
         "nullable", "bfloat16", "ml_dtypes", "objects"])
def test_numbers_of_any_type_are_as_float32(kind, made, want):
    assert_same(after(made, kind(rows())), want)


@pytest.mark.slow
def test_unsigned_bytes_of_a_table_are_numbers(made):
    x = rows() + 8
    assert_same(after(made, x.astype("uint8")), after(made, x.astype("float32")))


@pytest.fixture(scope="module")
def one_column():
    x, made = rows(40, 1).astype("float32"), model(1)
    made.fit(x, shuffle=False, verbose=0, validation_data=(x,))
    return x, made, [w.numpy() for w in made.weights]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [lambda x: x, pd.Series, lambda x: x.tolist()],
                         ids=["array", "series", "list"])
def test_one_column_needs_no_second_axis(one_column, kind):
    x, other, weights = one_column
    given, one = kind(x[:, 0]), model(1)
    one.fit(given, shuffle=False, verbose=0, validation_data=(given,))
    assert_same([w.numpy() for w in one.weights], weights)
    assert_same(one.predict(given, verbose=0), other.log_prob(x))
    assert_same(one.log_prob(given), other.log_prob(x))
    batches = tf.data.Dataset.from_tensor_slices(x[:, 0]).batch(8)
    assert_same(one.evaluate(batches, verbose=0), other.evaluate(x, batch_size=8, verbose=0))


@pytest.mark.slow
def test_float64_stays_float64():
    """Keras would cast it to its float type: near 1e9, to a few numbers."""
    x = 1e9 + np.random.RandomState(0).randn(256, 2)
    made = model(2, "float64")
    weights = np.ones(256)
    logs = made.fit(x, sample_weight=weights, batch_size=256, validation_split=0.25, verbose=0)
    shift = made.flow.bijectors[-1].layers[0]
    np.testing.assert_allclose(shift.shift, -x[:192].mean(0), atol=0.1)
    assert logs.history["loss"][0] < 4 and logs.history["val_loss"][0] < 4
    np.testing.assert_allclose(made.predict(x, verbose=0), made.log_prob(x), rtol=1e-12)
    evaluated = made.evaluate(x, sample_weight=weights, verbose=0, return_dict=True)["nll"]
    np.testing.assert_allclose(evaluated, -np.mean(made.log_prob(x)), rtol=1e-6)
    for given in (x, x.astype("int64")):
        with pytest.raises(ValueError, match="`x` loses its digits in float32.*column 0 with mean"):
            model(2).fit(given, verbose=0)


class Rows(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return (rows(20)[:, :2],)


def from_slices(x):
    return tf.data.Dataset.from_tensor_slices(x)


WRONG = {
    "another width": (lambda x: x[:, :2], r"`{}` must be \[N, 3\]. Received: shape=\(40, 2\)$"),
    "one example": (lambda x: x[0], r"`{}` must be \[N, 3\]. Received: shape=\(3,\), one example"),
    "no rows": (lambda x: x[:0], r"`{}` must have at least one row. Received: shape=\(0, 3\)$"),
    "a dictionary": (lambda x: {"a": x}, r"`{}` must be .* dict with the keys \['a'\]$"),
    "two arrays": (lambda x: [x, x], r"`{}` must be \[N, 3\]. Received: shape=\(2, 40, 3\)$"),
    "nothing": (lambda x: None, "`{}` must be one dense array .* NoneType$"),
    "text": (lambda x: x.astype(str), "`{}` must be real numbers. Received: dtype=<U"),
    "complex": (lambda x: x + 1j, "`{}` must be real numbers. Received: dtype=complex64$"),
    "lists of two lengths": (lambda x: [[1.0, 2.0], [1.0]], "`{}` must be one array .*length$"),
    "sparse": (lambda x: tf.sparse.from_dense(x), "`{}` must be one dense array .*SparseTensor$"),
    "masked": (lambda x: np.ma.masked_less(x, 0), "`{}` must not have masked entries. .* of them$"),
    "a column of text": (lambda x: pd.DataFrame(x, columns=list("abc")).assign(b="u"),
                         r"`{}` must have columns of numbers only. Received: columns \['b'\]"),
    "an iterator": (lambda x: iter([x]), "`{}` must be an array, or batches .* list_iterator$"),
    "an object": (lambda x: object(), "`{}` must be an array, or batches .* object$"),
    "one example each": (from_slices, r"`{}` must have batches \[N, 3\].* use .batch\(n\)$"),
    "batches of another width": (lambda x: from_slices(x[:, :2]).batch(8),
                                 r"`{}` must have batches \[N, 3\].*elements of shape \(None, 2\)"),
    "batches of dictionaries": (lambda x: from_slices({"a": x}).batch(8),
                                "`{}` must have elements x, .* Received: elements {{'a': Tensor"),
}


@pytest.fixture(scope="module")
def untrained():
    """What refuses everything it is given stays as it is."""
    return model()


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_taken_is_named(name, untrained):
    make, message = WRONG[name]
    made, x = untrained, rows().astype("float32")
    named = message.format("x")
    for method in (made.fit, made.evaluate, made.predict):
        with pytest.raises(ValueError, match="^" + named):
            method(make(x), verbose=0)
    if name != "nothing":
        with pytest.raises(ValueError, match="^" + message.format("validation_data")):
            made.fit(x, validation_data=(make(x),), verbose=0)
    if name == "no rows":
        assert made.log_prob(x[:0]).shape == made(x[:0]).shape == (0,)
        with pytest.raises(ValueError, match=named):
            made.train_on_batch(x[:0])
    elif "batch" not in name:
        for method in (made.log_prob, made, made.train_on_batch, made.initialize):
            with pytest.raises(ValueError, match="`x` must "):
                method(make(x))
    assert not int(made.optimizer.iterations) and not int(made.initialized)


def test_batches_of_another_width_that_nothing_says_before_are_named():
    for given in (Rows(workers=1), ((rows()[:, :2],) for _ in range(3))):
        with pytest.raises(ValueError, match=r"`x` must be \[N, 3\]. Received: shape=\(.*, 2\)"):
            model().fit(given, verbose=0)


def test_entries_that_are_not_finite_are_named_by_their_column():
    x = pd.DataFrame(rows(), columns=["a", "b", "c"]).astype(float)
    x.loc[7, "b"] = np.nan
    for call in (model().fit, model().evaluate):
        with pytest.raises(ValueError, match="`x` must be finite. .* nan in row 7, column 'b'$"):
            call(x, verbose=0)
    good = rows().astype("float32")
    with pytest.raises(ValueError, match="`validation_data` must be finite.*row 7, column 'b'$"):
        model().fit(good, validation_data=(x,), verbose=0)
    with pytest.raises(ValueError, match="`sample_weight` must be finite. Received: nan in row 3$"):
        model().fit(good, sample_weight=np.where(np.arange(40) == 3, np.nan, 1), verbose=0)
    assert np.isnan(model().log_prob(x)).sum() == 1  # where each row is by itself


def test_images_of_bytes_are_told_how_to_be_scaled():
    flow = flows.image_flow([2, 2, 1], nblocks=(1,), idim=4, fc_end=False, seed=0)
    made = FlowModel(flow, nbits=8)
    made.compile("sgd")
    rule = "`x` must be floats in .*/ 2.8. Received: "
    for call in (made.fit, made.evaluate, made.predict, lambda x, verbose: made.log_prob(x)):
        with pytest.raises(ValueError, match=rule + "dtype=uint8"):
            call(np.zeros([4, 2, 2, 1], "uint8"), verbose=0)
    bytes_ = np.full([4, 2, 2, 1], 255.0)
    with pytest.raises(ValueError, match=rule + "values from 255 to 255"):
        made.fit(bytes_, verbose=0)
    np.testing.assert_array_equal(made.log_prob(bytes_), -np.inf)


def test_images_of_one_channel_need_no_last_axis():
    flow = flows.image_flow([2, 2, 1], nblocks=(1,), idim=4, fc_end=False, seed=0)
    x = np.random.RandomState(0).rand(5, 2, 2)
    made = FlowModel(flow, nbits=8)
    np.testing.assert_array_equal(made.bits_per_dim(x, seed=0),
                                  made.bits_per_dim(x[..., None], seed=0))


@pytest.mark.fast("2")
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_loss_is_what_is_minimised_and_nll_a_weighted_mean(micro_batches):
    """As in Keras: with weights, and with a regulariser."""
    made = model(micro_batches=micro_batches)
    made.compile(keras.optimizers.SGD(0.0))
    x, weights = rows().astype("float32"), np.linspace(0, 3, 40).astype("float32")
    made.initialize(x)
    layer = next(w for w in made.norm_layers)
    layer.kernel.regularizer = keras.regularizers.L2(0.1)
    penalty = 0.1 * np.sum(np.square(layer.kernel))
    nll = -made.log_prob(x).numpy()
    evaluated = made.evaluate(x, sample_weight=weights, verbose=0, return_dict=True)
    np.testing.assert_allclose(evaluated["nll"], np.average(nll, weights=weights), rtol=1e-5)
    np.testing.assert_allclose(evaluated["loss"], np.mean(weights * nll) + penalty, rtol=1e-5)
    made.eval_flow = made.flow
    logs = made.fit(x, sample_weight=weights, batch_size=16, verbose=0).history
    assert logs["loss"][0] - penalty == pytest.approx(weights.mean() * logs["nll"][0], rel=1e-5)
