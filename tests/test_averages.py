"""With averaged weights: what was scored is what is kept, what was loaded is what is evaluated."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_distributed import data, float64, model  # noqa: F401
from tfresflow import FlowModel, logdet


def made(strategy=None, use_ema=True):
    """A compiled model whose averages are far from its weights after a few steps."""
    with (strategy or tf.distribute.get_strategy()).scope():
        flow = model().flow if strategy is None else model(strategy).flow
        it = FlowModel(flow, eval_log_det=logdet.Exact())
        it.compile(keras.optimizers.Adam(5e-2, use_ema=use_ema, ema_momentum=0.9))
    return it


def trained(steps=12, **kwargs):
    it = made(**kwargs)
    it.initialize(data(64))
    for _ in range(steps):
        it.train_on_batch(data(64))
    return it


def score(it):
    return it.evaluate(data(64), batch_size=64, verbose=0, return_dict=True)["nll"]


def raw_score(it):
    return -np.mean(it.log_prob(data(64), seed=0))


def everything(it):
    return [np.asarray(v.value) for v in [*it.weights, *it.optimizer.variables]]


def assert_same(got, want, rtol=0):
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def test_evaluation_changes_no_variable_and_reads_the_averages():
    it = trained(5)
    before = everything(it)
    evaluated = score(it)
    predicted = -it.predict(data(64), batch_size=64, verbose=0)
    tested = it.test_on_batch(data(64), return_dict=True)
    step = it.weights.index(it.eval_step)
    assert_same(everything(it)[step + 1:], before[step + 1:])
    assert abs(evaluated - raw_score(it)) > 0.05
    np.testing.assert_allclose(np.mean(predicted), evaluated, rtol=1e-5)
    np.testing.assert_allclose(tested["nll"], evaluated, rtol=1e-5)
    with it.averaged_weights():
        np.testing.assert_allclose(-it.log_prob(data(64), seed=0).numpy().mean(), evaluated,
                                   rtol=1e-5)
        for layer in it.norm_layers:
            assert float(layer.measure_norm()) <= layer.coeff + 1e-5
        for variable, average in zip(it.trainable_variables,
                                     it.optimizer._model_variables_moving_average):
            np.testing.assert_array_equal(variable, average)
    assert_same(everything(it)[step + 1:], before[step + 1:])


@pytest.mark.slow
def test_another_thread_sees_the_weights_throughout():
    it, x = trained(5), data(16)
    want = it.log_prob(x, seed=0).numpy()
    seen, over = [], threading.Event()

    def watch():
        while not over.is_set() or len(seen) < 3:
            seen.append(it.log_prob(x, seed=0).numpy())

    thread = threading.Thread(target=watch)
    thread.start()
    for _ in range(3):
        score(it)
        it.get_weights()
        with it.averaged_weights():
            assert np.abs(it.log_prob(x, seed=0) - want).max() > 1e-2
    over.set()
    thread.join()
    for got in seen:
        np.testing.assert_array_equal(got, want)


@pytest.mark.slow
def test_what_early_stopping_restores_is_its_best():
    it = made()
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    # A rate that rises makes later epochs worse.
    rise = keras.callbacks.LearningRateScheduler(lambda epoch: 1e-2 * 4 ** epoch)
    logs = it.fit(data(64), epochs=8, batch_size=16, shuffle=False, verbose=0,
                  validation_data=(data(64),), validation_batch_size=64,
                  callbacks=[rise, stop]).history["val_nll"]
    assert len(logs) < 8 and logs[-1] > min(logs) + 0.1
    np.testing.assert_allclose(score(it), min(logs), rtol=1e-5)
    np.testing.assert_allclose(raw_score(it), min(logs), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_what_a_checkpoint_holds_scores_what_it_scored(suffix, tmp_path):
    it, path = made(), tmp_path / f"best.{suffix}"
    keep = keras.callbacks.ModelCheckpoint(path, save_best_only=True,
                                           save_weights_only=suffix != "keras")
    best = min(it.fit(data(64), epochs=3, batch_size=16, shuffle=False, verbose=0,
                      validation_data=(data(64),), validation_batch_size=64,
                      callbacks=[keep]).history["val_nll"])
    if suffix == "keras":
        whole, bare = (keras.saving.load_model(path, compile=c) for c in (True, False))
        bare.compile("sgd")
    else:
        whole, bare = made(), made(use_ema=False)
        whole.optimizer.build(whole.trainable_variables)
        for loaded in (whole, bare):
            loaded.load_weights(path)
    for loaded in (whole, bare):
        np.testing.assert_allclose(score(loaded), best, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_training_goes_on_from_a_file_as_if_never_stopped(suffix, tmp_path):
    it, path = trained(6), tmp_path / f"model.{suffix}"
    before = everything(it)
    if suffix == "keras":
        it.save(path)
        other = keras.saving.load_model(path)
    else:
        it.save_weights(path)
        other = made()
        other.optimizer.build(other.trainable_variables)
        other.load_weights(path)
    assert_same(everything(it), before)
    assert score(other) == score(it)
    for each in (it, other):
        each.eval_step.assign(0)
        for _ in range(3):
            each.train_on_batch(data(64))
    assert_same(everything(other), everything(it), rtol=1e-6)
    assert abs(score(it) - raw_score(it)) > 0.005


@pytest.mark.slow
def test_loading_an_older_model_evaluates_the_older_one(tmp_path):
    """Of a file without averages, too: those of the newer model are not scored for it."""
    older, newer = trained(4), trained(12)
    plain = made(use_ema=False)
    plain.set_weights(older.get_weights())
    for source, name in ((older, "averaged.weights.h5"), (plain, "plain.weights.h5")):
        source.save_weights(tmp_path / name)
        assert abs(score(newer) - score(older)) > 0.05
        newer.load_weights(tmp_path / name)
        np.testing.assert_allclose(score(newer), score(older), rtol=1e-6)
        assert int(newer.optimizer.iterations.numpy()) in (4, 13)
        newer = trained(12)
        newer.train_on_batch(data(64))


@pytest.mark.slow
def test_weights_that_are_set_are_evaluated_and_trained_from():
    it = trained()
    weights, want = it.get_weights(), score(it)
    for _ in range(3):
        it.train_on_batch(data(64))
    assert abs(score(it) - want) > 1e-3
    it.set_weights(weights)
    np.testing.assert_allclose(score(it), want, rtol=1e-6)
    assert_same(*([w for w in ws if w.dtype.kind == "f"] for ws in (it.get_weights(), weights)))
    it.train_on_batch(data(64))
    for average, weight, old in zip(it.optimizer._model_variables_moving_average,
                                    it.trainable_variables, [v.numpy() for v in (
                                        made_like(it, weights).trainable_variables)]):
        np.testing.assert_allclose(average, 0.9 * old + 0.1 * weight.numpy(), rtol=1e-4, atol=1e-6)


def made_like(it, weights):
    other = FlowModel.from_config(it.get_config())
    other.set_weights(weights)
    return other


@pytest.mark.slow
def test_after_fit_the_weights_themselves_are_evaluated():
    it = made()
    it.fit(data(64), epochs=2, batch_size=16, verbose=0)
    assert_same(it.get_weights(), [w.numpy() for w in it.weights])
    np.testing.assert_allclose(score(it), raw_score(it), rtol=1e-5)
    before, shift = score(it), next(w for w in it.trainable_weights if w.name == "shift")
    shift.assign(shift + 1.0)
    moved = score(it)
    assert abs(moved - before) > 0.1
    it.fit(data(64), epochs=1, initial_epoch=1, verbose=0)  # no step
    np.testing.assert_allclose(score(it), moved, rtol=1e-6)


def test_a_fit_without_a_step_leaves_the_weights():
    it = made()
    it.initialize(data(64))
    before = [w.numpy() for w in it.trainable_weights]
    it.fit(data(64), epochs=1, initial_epoch=1, verbose=0)
    assert_same([w.numpy() for w in it.trainable_weights], before)


class Stop(Exception):
    pass


@pytest.mark.slow
def test_backup_and_restore_goes_on_exactly(tmp_path):
    def fit(it, *callbacks):
        it.fit(data(64), epochs=3, batch_size=16, shuffle=False, verbose=0,
               validation_data=(data(64),), callbacks=list(callbacks))
        return everything(it)

    def stop(epoch, logs=None):
        if epoch == 2:
            raise Stop

    want = fit(made())
    backup = [keras.callbacks.BackupAndRestore(tmp_path / "backup") for _ in range(2)]
    with pytest.raises(Stop):
        fit(made(), backup[0], keras.callbacks.LambdaCallback(on_epoch_begin=stop))
    assert_same(fit(made(), backup[1]), want, rtol=1e-6)


@pytest.mark.slow
def test_averages_on_replicas(mirrored, float64, tmp_path):  # noqa: F811
    def fit(it):
        it.fit(data(64), batch_size=16, epochs=1, shuffle=False, verbose=0)
        return it

    one, two = fit(made()), fit(made(mirrored))
    two.save_weights(tmp_path / "two.weights.h5")
    np.testing.assert_allclose(score(two), score(one), rtol=1e-6)
    # The marks of the norms are of all bits, and sums of replicas are rounded otherwise.
    assert_same(*([w for w in it.get_weights() if w.dtype.kind == "f"] for it in (two, one)),
                rtol=1e-8)
