"""FlowModel: likelihoods done by hand, and what Keras users do with a model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows, norm_report
from tests.registry import example
from tfresflow import FlowModel, layers, logdet, losses
from tfresflow.functions import upkeep

tfd = tfp.distributions


def toy_model(base=None, **kwargs):
    flow = flows.toy_flow(nblocks=2, dims=(8,), seed=0, log_det=logdet.LogDet(
        logdet.Geometric(0.5)))
    return FlowModel(flow, base, **{"eval_log_det": logdet.Exact(), **kwargs})


def data(n=256, seed=0):
    x = example([2], n, seed=seed)
    return tf.cast(tf.stack([x[:, 0], 0.3 * x[:, 1] + 0.5 * x[:, 0]], 1) * 3 + 1, tf.float32)


def compiled(model, **kwargs):
    model.compile(keras.optimizers.Adam(1e-2, global_clipnorm=1.0, **kwargs))
    return model


def test_density_integrates_to_one():
    model = toy_model()
    side = np.linspace(-9, 9, 241, dtype=np.float32)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    total = np.exp(model.log_prob(grid)).sum() * (side[1] - side[0]) ** 2
    np.testing.assert_allclose(total, 1, atol=1e-3)


def test_fit_learns_and_evaluate_repeats():
    model = compiled(toy_model())
    x = data()
    before = model.evaluate(x, verbose=0, return_dict=True)["nll"]
    history = model.fit(x, epochs=12, batch_size=64, verbose=0, validation_data=(data(seed=1),))
    first, second = (model.evaluate(x, verbose=0, return_dict=True) for _ in range(2))
    assert first["nll"] < before - 1 and first == second
    truth = 0.5 * np.log(np.linalg.det(2 * np.pi * np.e * np.cov(x.numpy().T)))
    assert truth - 0.05 < first["nll"] < truth + 0.1, (first, truth)
    assert {"nll", "val_nll"} <= set(history.history)


def test_training_estimate_is_the_true_one():
    """The nll that training logs is unbiased, Neumann gradient or not: no surrogate."""
    model = toy_model()
    x = tf.repeat(data(4), 4000, axis=0)
    draws = np.reshape(model.compute_nll(x, 3), [4, 4000])
    exact = -model.log_prob(data(4)).numpy()
    stderr = draws.std(axis=1) / np.sqrt(4000)
    assert np.all(np.abs(draws.mean(axis=1) - exact) < 4 * stderr + 1e-3)


def test_predict_is_log_prob_and_repeats():
    model = compiled(toy_model(eval_log_det=None))
    x = data(10)
    np.testing.assert_array_equal(model.predict(x, verbose=0), model.predict(x, verbose=0))
    assert model.predict(x, verbose=0).shape == (10,)


@pytest.mark.fast("None")
@pytest.mark.parametrize("base", [None, tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2)),
                                  tfd.Sample(tfd.StudentT(5.0, 0.0, 1.0), 2)])
def test_sample_then_log_prob(base):
    model = toy_model(base)
    x = model.sample(7, seed=3)
    np.testing.assert_array_equal(x, model.sample(7, seed=3))
    z, log_det = model.eval_flow.forward_and_log_det(x)
    np.testing.assert_allclose(model.log_prob(x), model.base.log_prob(z) + log_det, rtol=1e-5)
    np.testing.assert_allclose(model.sample(7, seed=3, temperature=0.0),
                               tf.repeat(model.flow.inverse(tf.zeros([1, 2])), 7, 0), atol=1e-5)


def test_actnorm_starts_from_the_first_batch():
    model = compiled(FlowModel(flows.tabular_flow([2], nblocks=1, dims=(4,), seed=0)))
    x = data() * [1.0, 50.0] + 7
    model.fit(x, batch_size=256, epochs=1, verbose=0, shuffle=False)
    fresh = flows.tabular_flow([2], nblocks=1, dims=(4,), seed=0)
    z = fresh.initialize(x)
    np.testing.assert_allclose(tf.math.reduce_std(z, 0), 1, atol=0.05)
    start = [layer for layer in fresh.layers if hasattr(layer, "shift")][0]
    moved = [layer for layer in model.flow_layers if hasattr(layer, "shift")][0]
    np.testing.assert_allclose(moved.shift, start.shift, atol=0.05)  # one step of 0.01 away
    shift = moved.shift.numpy()
    model.fit(10 * x, batch_size=256, epochs=1, verbose=0)
    np.testing.assert_allclose(moved.shift, shift, atol=0.05)  # not set again


def test_columns_of_a_table_have_units_of_their_own():
    x = tf.cast(data(), tf.float64) * [1e-5, 1e5]
    z = flows.tabular_flow([2], nblocks=1, dims=(4,), dtype="float64", seed=0).initialize(x)
    np.testing.assert_allclose(tf.math.reduce_std(z, 0), 1, atol=0.1)


@pytest.mark.slow
def test_averaged_weights_are_used_and_put_back():
    model = compiled(toy_model(), use_ema=True, ema_momentum=0.9)
    x = data()
    model.initialize(x)
    for _ in range(30):
        model.train_on_batch(x)
    raw = [w.numpy() for w in model.weights]
    raw_nll = -np.mean(model.log_prob(x))
    with model.averaged_weights():
        averaged_nll = -np.mean(model.log_prob(x))
        averages = model.optimizer._model_variables_moving_average
        for weight, average in zip(model.trainable_variables, averages):
            np.testing.assert_array_equal(weight, average)
        for layer in model.norm_layers:  # power iteration followed the swap
            assert float(layer.measure_norm()) <= layer.coeff + 1e-5
    for weight, value in zip(model.weights, raw):
        np.testing.assert_array_equal(weight, value)
    assert abs(averaged_nll - raw_nll) > 1e-4
    # The metric is a float32 mean over batches of 32.
    evaluated = model.evaluate(x, verbose=0, return_dict=True)["nll"]
    np.testing.assert_allclose(evaluated, averaged_nll, rtol=1e-5)


@pytest.mark.fast("0")
@pytest.mark.parametrize("finite", [0, 2])
def test_averages_begin_with_the_weights_though_the_first_steps_are_left_out(finite):
    model = compiled(toy_model(skip_nonfinite=3), use_ema=True)
    x = data(32)
    model.initialize(x)
    start = [v.numpy() for v in model.trainable_variables]
    for _ in range(3):
        model.train_on_batch(np.nan * x)
    for _ in range(finite):
        model.train_on_batch(x)
    with model.averaged_weights():
        for variable, value in zip(model.trainable_variables, start):
            np.testing.assert_allclose(variable, value, rtol=0, atol=1e-3 * finite)
    assert finite == 0 or np.abs(model.trainable_variables[0] - start[0]).max() > 5e-3


@pytest.mark.slow
def test_norms_stay_within_coeff_through_training():
    model = compiled(toy_model())
    model.fit(data(), epochs=10, batch_size=32, verbose=0)
    norms = [row.measured for row in norm_report(model.flow).layers]
    assert len(norms) == 4 and max(norms) <= 0.9 + 1e-3 and max(norms) > 0.85


def test_power_iteration_runs_once_a_step():
    model = compiled(toy_model())
    x, layer = data(), model.norm_layers[0]
    model.initialize(x)
    before = layer.u.numpy()
    model.evaluate(x, verbose=0)
    model.sample(3, seed=0)
    np.testing.assert_array_equal(layer.u.numpy(), before)
    model.train_on_batch(x)
    kernel, v = layer.kernel.value, layer.v.value
    assert not np.array_equal(layer.u.numpy(), before)
    top = np.linalg.svd(kernel.numpy(), compute_uv=False)[0]
    sigma = float(tf.reduce_sum(layer.u * layer.function.product(kernel, v)))
    np.testing.assert_allclose(sigma, top, rtol=2e-3)


@pytest.mark.fast("keras")
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_saves_and_restores(suffix, tmp_path):
    model = compiled(toy_model(), use_ema=True)
    x = data(64)
    model.fit(x, epochs=1, verbose=0)
    path = tmp_path / f"model.{suffix}"
    if suffix == "keras":
        model.save(path)
        loaded = keras.saving.load_model(path)
        assert int(loaded.optimizer.iterations) == int(model.optimizer.iterations) == 2
        loaded.fit(x, epochs=1, verbose=0)  # it goes on
        loaded = keras.saving.load_model(path)
    else:
        model.save_weights(path)
        loaded = toy_model()
        loaded.load_weights(path)
    np.testing.assert_array_equal(loaded.log_prob(x), model.log_prob(x))
    assert int(loaded.initialized) == 1


@pytest.mark.slow
def test_keras_callbacks_and_a_dataset(tmp_path):
    model = compiled(toy_model(), use_ema=True)
    batches = tf.data.Dataset.from_tensor_slices(data()).batch(64)
    path = tmp_path / "best.weights.h5"
    model.fit(batches, epochs=3, validation_data=batches, verbose=0, callbacks=[
        keras.callbacks.CSVLogger(tmp_path / "log.csv"), keras.callbacks.TerminateOnNaN(),
        keras.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True),
        keras.callbacks.EarlyStopping(patience=3),
        keras.callbacks.TensorBoard(tmp_path / "tb")])
    history = model.history.history
    assert history["loss"] == history["nll"] and history["val_loss"] == history["val_nll"]
    assert path.exists() and (tmp_path / "log.csv").read_text().count("\n") == 4


@pytest.mark.slow
def test_one_step_on_two_replicas(mirrored):
    """The same weights on both, finite, and moved."""
    with mirrored.scope():
        model = compiled(toy_model())
    before = model.flow_layers[0].weights[0].numpy()
    model.fit(data(), batch_size=128, epochs=1, verbose=0)
    for weight in model.flow_layers[0].weights:
        first, second = mirrored.experimental_local_results(weight.value)
        np.testing.assert_array_equal(first, second)
    assert np.abs(model.flow_layers[0].weights[0].numpy() - before).max() > 1e-4


def test_a_model_has_the_dtype_of_its_flow():
    flow = flows.toy_flow(nblocks=1, dims=(4,), dtype="float64", seed=0)
    model = FlowModel(flow)
    x = tf.cast(data(5), tf.float64)
    assert model.sample(2, seed=0).dtype == model.log_prob(x).dtype == tf.float64
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), rtol=1e-12)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(
        FlowModel(flow, losses.StandardNormal([2], "float64"))))
    assert again.dtype == "float64" and again.base.dtype == tf.float64


class _Stretched(bijectors.Flatten):
    """Its variable is in no Keras layer."""

    def __init__(self, event_shape):
        super().__init__(event_shape)
        self.factor = tf.Variable(1.0, name="factor")


@pytest.mark.parametrize("make, message", [
    (lambda: toy_model(nbits=0), r"`nbits` must be in 1..16, or None. Received: nbits=0"),
    (lambda: toy_model().bits_per_dim(data(3)), r"`nbits` must be given to FlowModel"),
    (lambda: toy_model().sample(3, temperature=-1), r"`temperature` must not be negative"),
    (lambda: FlowModel(_Stretched([2])), r"`flow` must hold .*Received: \['factor:0'\]"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_broken_contraction_is_reported_by_sample():
    """Weights of which norms do not know: the inverse fails, and says why. They come to know."""
    model = toy_model()
    for layer in model.norm_layers:
        layer.kernel.assign(30 * layer.kernel)
        layer.u.assign(tf.zeros_like(layer.u))  # what normalised it is gone
    failure = pytest.raises(tf.errors.InvalidArgumentError,
                            match="no contraction .`bijectors.norm_report` measures")
    with upkeep.kept(), failure:
        model.sample(3, seed=0)
    assert np.all(np.isfinite(model.sample(3, seed=0)))
    assert isinstance(model.norm_layers[0], layers.InducedNormDense)


class Counting(FlowModel):
    """Has a metric of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.rows = keras.metrics.Sum(name="rows")

    def update_metrics(self, x, losses, weights):
        super().update_metrics(x, losses, weights)
        self.rows.update_state(weights)


@pytest.mark.slow
def test_metric_of_a_subclass_is_reported():
    model = compiled(Counting(toy_model().flow))
    history = model.fit(data(64), validation_split=0.25, epochs=2, verbose=0).history
    assert history["rows"] == [48, 48] and history["val_rows"] == [16, 16]
