"""What ActNorm starts from: all of the data that takes part, once, and never from what is not."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import bijectors
from bijectors import flows
from tests.registry import build, every_flow
from tfresflow import FlowModel, logdet
from tfresflow.training.distributed import NonFinite


def table(n, d=3, seed=0):
    return np.random.RandomState(seed).randn(n, d) * [1, 1e-3, 50][:d] + [5, 0, -3][:d]


def model(d=3, strategy=None, **kwargs):
    with (strategy or tf.distribute.get_strategy()).scope():
        flow = flows.tabular_flow([d], nblocks=1, dims=(4,), seed=0, dtype="float64",
                                  log_det=logdet.LogDet(logdet.Truncated(2)))
        made = FlowModel(flow, **kwargs)
        made.compile(keras.optimizers.SGD(0.0))
    return made


def start(made):
    """`(shift, scale)` of the ActNorm that meets the data."""
    weights = made.flow.bijectors[-1].layers[0]
    return weights.shift.numpy(), np.exp(weights.log_scale.numpy())


def fitted(x, *args, **kwargs):
    made = model(x.shape[-1] if isinstance(x, np.ndarray) else 3)
    made.fit(x, *args, verbose=0, **kwargs)
    return start(made)


def of(x):
    return -x.mean(axis=0), 1 / x.std(axis=0)


def assert_starts(got, want):
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


@every_flow
def test_rows_of_weight_0_take_no_part_and_bad_ones_change_nothing(name):
    flow, x = build(name, n=6)
    garbage = tf.concat([x, 100 + 0 * x], axis=0)

    def weights():
        return [w.numpy() for layer in flow.layers for w in layer.weights]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of constant channels in few rows
        flow.initialize(x)
        want = weights()
        flow.initialize(garbage, weights=[1.0] * 6 + [0.0] * 6)
    for a, b in zip(weights(), want):
        np.testing.assert_array_equal(a, b)
    spoiled = x.numpy()
    spoiled[4].ravel()[0] = np.nan
    for bad, message in ((spoiled, "`x` must be finite. Received: nan in row 4, "),
                         (x[:0], "`x` must have at least one row")):
        with pytest.raises(ValueError, match=message):
            flow.initialize(bad)
    for a, b in zip(weights(), want):
        np.testing.assert_array_equal(a, b)


@pytest.mark.fast("50")
@pytest.mark.parametrize("batch_size", [1, 50])
def test_a_rare_column_does_not_explode(batch_size):
    """Its few rows are not in the first batch."""
    x = table(600)
    x[:, 1] = 0
    x[[100, 300, 500], 1] = 1.0
    made = model()
    made.fit(x, batch_size=batch_size, epochs=1, steps_per_epoch=2, shuffle=False, verbose=0)
    assert_starts(start(made), of(x))
    other = table(300, seed=1)
    other[:, 1] = 0
    other[7, 1] = 1.0
    assert made.evaluate(other, verbose=0, return_dict=True)["nll"] < 20


@pytest.mark.fast("0.0-1.0")
@pytest.mark.parametrize("value, scale", [(0.0, 1.0), (1e-9, 1.0), (2000.0, 1 / 2000.0)])
def test_a_constant_column_is_named_and_keeps_a_scale(value, scale):
    x = table(60)
    x[:, 1] = value
    with pytest.warns(UserWarning, match="actnorm: column 1 is constant in the 60 rows"):
        shift, got = fitted(x)
    assert (shift[1], got[1]) == pytest.approx((-value, scale), rel=1e-12)


def test_a_channel_near_a_large_number_is_not_constant():
    """Whose square is past the digits of float64; noise in the last digits of float32 is."""
    x = np.random.RandomState(0).randn(5000, 2) + [1e9, 0]
    flow = bijectors.ActNorm([2], dtype="float64", min_variance=0.0)
    z = flow.initialize(x)
    np.testing.assert_allclose(np.std(z, 0), 1, rtol=1e-6)
    np.testing.assert_allclose(np.mean(z, 0), 0, atol=1e-6)
    noise = (1 + 1e-7 * np.random.RandomState(0).randn(50, 1)).astype("float32")
    with pytest.warns(UserWarning, match="constant"):
        z = bijectors.ActNorm([1], min_variance=0.0).initialize(noise)
    assert np.abs(z).max() < 1e-6


def test_many_rows_are_taken_in_parts_and_in_all():
    """More than a chunk of moments, and more than a residual block is tried on."""
    x = table(90_000, 2, seed=3)
    x[-1] = [1000.0, 1.0]
    weights = np.random.RandomState(0).rand(len(x))
    flow = flows.tabular_flow([2], nblocks=1, dims=(4,), seed=0, dtype="float64")
    assert len(flow.initialize(x, weights)) == 2 ** 14
    mean = np.average(x, axis=0, weights=weights)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    first, last = flow.bijectors[-1].layers[0], flow.bijectors[0].bijectors[0].layers[0]
    np.testing.assert_allclose(first.shift, -mean, rtol=1e-9)
    np.testing.assert_allclose(first.log_scale, -np.log(std), rtol=1e-9)
    assert last.started


@pytest.mark.fast("array")
@pytest.mark.parametrize("kind", ["array", "data set", "generator", "py_dataset"])
def test_data_sorted_by_class_starts_from_all_classes(kind):
    x = np.sort(table(2000, seed=2), axis=0)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 40

        def __getitem__(self, i):
            return (x[50 * i:50 * i + 50],)

    given = {"array": lambda: x, "generator": lambda: ((b,) for b in np.split(x, 40)),
             "data set": lambda: tf.data.Dataset.from_tensor_slices(x).batch(50),
             "py_dataset": Batches}[kind]()
    assert_starts(fitted(given, steps_per_epoch=40), of(x))


def test_a_long_data_set_is_sampled_throughout():
    x = np.sort(table(60_000, seed=2), axis=0)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(500)
    made = model()
    made.fit(batches, verbose=0)
    assert np.abs(start(made)[0] + x.mean(axis=0)).max() < 0.1 * x.std(axis=0).max()
    np.testing.assert_allclose(start(made)[1] * x.std(axis=0), 1, rtol=0.1)


def test_no_more_is_asked_of_a_generator_than_fit_will_ask():
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield (table(10, seed=len(taken)),)

    fitted(endless(), steps_per_epoch=4, epochs=2)
    assert len(taken) <= 8 + 2  # Keras itself looks two ahead


def test_weights_of_examples_and_classes():
    x, labels = table(400), np.repeat([0, 1], 200)
    x[200:] += 100
    weights = 1.0 - labels
    want = of(x[:200])
    assert_starts(fitted(x, sample_weight=weights), want)
    assert_starts(fitted(x, labels, class_weight={0: 1.0, 1: 0.0}), want)
    batches = tf.data.Dataset.from_tensor_slices((x, labels, weights)).batch(100)
    assert_starts(fitted(batches), want)
    with pytest.raises(ValueError, match="`weights` must be 400 finite numbers with a positive su"):
        fitted(x, sample_weight=0 * weights)


def test_held_out_rows_take_no_part():
    x = table(100)
    x[80:] += 100
    assert_starts(fitted(x, validation_split=0.2), of(x[:80]))


def test_what_is_trained_or_set_does_not_start_anew(tmp_path):
    x = table(64)
    made = model()
    made.compile(keras.optimizers.SGD(1e-3))
    for _ in range(3):
        made.train_on_batch(x)
    before = start(made)
    again = FlowModel(made.flow)
    loaded = model()
    made.save_weights(tmp_path / "flow.weights.h5")
    loaded.load_weights(tmp_path / "flow.weights.h5")
    for trained in (made, again, loaded):
        trained.compile(keras.optimizers.SGD(0.0))
        trained.fit(100 + x, verbose=0)
        for a, b in zip(start(trained), before):
            np.testing.assert_array_equal(a, b)
    made.initialize(100 + x)  # unless it is told to
    assert_starts(start(made), of(100 + x))


@pytest.mark.slow
def test_replicas_start_from_the_whole(mirrored):
    x = table(90)
    made = model(strategy=mirrored)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(7)
    made.fit(mirrored.experimental_distribute_dataset(batches), verbose=0)
    assert_starts(start(made), of(x))
    for weight in made.weights:
        first, second = mirrored.experimental_local_results(weight.value)
        np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="`initialize` must be called once for all replicas"):
        mirrored.run(made.flow.initialize, (x,))


@pytest.mark.fast("array")
@pytest.mark.parametrize("kind", ["array", "data set"])
def test_data_that_is_not_finite_is_named(kind):
    x = table(64)
    x[37, 2] = np.inf
    given = x if kind == "array" else tf.data.Dataset.from_tensor_slices(x).batch(16)
    made = model()
    with pytest.raises(ValueError, match="`x` must be finite. Received: inf in row 37, column 2"):
        made.fit(given, verbose=0)
    assert not start(made)[0].any() and int(made.optimizer.iterations) == 0
    tolerant = model(skip_nonfinite=2)
    with pytest.warns(UserWarning, match="1 of the 64 rows .* not finite .* row 37, column 2"):
        tolerant.fit(given, batch_size=None if kind == "data set" else 16, verbose=0)
    assert_starts(start(tolerant), of(np.delete(x, 37, axis=0)))


def test_a_loss_that_is_not_finite_ends_fit():
    """One that comes in late, and weights that the last step spoils."""
    x = table(300)
    late = ((x if i < 70 else np.where(x == x[5, 1], np.nan, x),) for i in range(80))
    made = model()
    with pytest.raises(NonFinite, match="at step 71; first bad: the data, in row 5, column 1 of"):
        made.fit(late, verbose=0, steps_per_epoch=80)
    made = model()
    made.compile(keras.optimizers.SGD(1e308))
    with pytest.raises(NonFinite, match="the weight .* is not finite at step 1"):
        made.fit(1e3 * x, batch_size=300, verbose=0)


def test_a_flow_that_says_initialize_alone_still_starts():
    """As subclasses did that were written before `weights`."""
    class Shift(bijectors.ActNorm):
        def initialize(self, x):
            self.layers[0].shift.assign(-tf.reduce_mean(x, 0))
            return self.forward_and_log_det(x)[0]

    flow = bijectors.Chain([Shift([3], dtype="float64")])
    flow.initialize(table(40))
    np.testing.assert_allclose(flow.layers[0].shift, -table(40).mean(axis=0))
