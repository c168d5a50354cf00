"""What Keras's methods offer and a model of a density does not take is told in one line."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from tests.test_model import compiled, data, toy_model
from tfresflow import FlowModel, logdet, solvers

tfb, tfd = tfp.bijectors, tfp.distributions
X = np.zeros([4, 2], "float32")


class Penalised(FlowModel):
    """Says its loss where Keras's own models do."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return 1.0


@functools.cache
def refusing():
    """A model for many refusals, none of which changes it."""
    return toy_model()


@pytest.mark.parametrize("make, message", [
    (lambda: refusing().compile(loss="mse"), "`loss` must be None.* Received: loss=mse"),
    (lambda: refusing().compile(metrics=["mae"]), "`metrics` must be None"),
    (lambda: refusing().compile(weighted_metrics=["mae"]), "`weighted_metrics` must be None"),
    (lambda: refusing().compile(loss_weights=[1.0]), "`loss_weights` must be None"),
    (lambda: refusing().compile(steps_per_execution=0), "`steps_per_execution` must be at"),
    (lambda: Penalised(refusing().flow).compile("sgd"), "`compute_loss` must not be overridden"),
    (lambda: refusing().compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())),
     "`optimizer` must be one optimizer"),
    (lambda: refusing().compile(keras.optimizers.SGD(loss_scale_factor=8.0)),
     "`loss_scale_factor` of the optimizer must be None"),
    (lambda: compiled(toy_model(), use_ema=True).fit(X, callbacks=[
        keras.callbacks.SwapEMAWeights()]), "`callbacks` must not have SwapEMAWeights"),
    (lambda: compiled(toy_model()).fit(X, class_weight={0: 1.0}), "`class_weight` must come with"),
    (lambda: FlowModel(tfb.Shift([1.0, 2.0])), "`flow` must have `forward_and_log_det`"),
    (lambda: FlowModel(tfd.Normal(0.0, 1.0), refusing().flow), "`flow` must have"),
    (lambda: toy_model("normal"), "`base` must be a distribution.*Received: base=normal"),
    (lambda: toy_model(tfd.MultivariateNormalDiag(tf.zeros(3))), r"`base` must have the event_shape"
     r" \(2,\).*Received: event_shape=\(3,\)"),
    (lambda: toy_model(tfd.Normal(0.0, 1.0)), r"`base` must have the event_shape"),
    (lambda: toy_model(tfd.Normal(tf.zeros(2), 1.0)), r"`base` must have the event_shape"),
    (lambda: toy_model(tfd.MultivariateNormalDiag(tf.zeros(2, tf.float64))),
     "`base` must have the dtype .*float32. Received: dtype=float64"),
    (lambda: toy_model(eval_log_det="exact"), "`eval_log_det` must be .*Received: eval_log_det=e"),
    (lambda: toy_model(eval_log_det=logdet.Exact), "`eval_log_det` must be `LogDet"),
    (lambda: toy_model(seed="a"), "`seed` must be a whole number. Received: seed=a"),
    (lambda: toy_model(nbits=2.5), "`nbits` must be in 1..16"),
    (lambda: toy_model(micro_batches="2"), "`micro_batches` must be at least 1, a whole number"),
    (lambda: toy_model(skip_nonfinite=None), "`skip_nonfinite` must be at least 0"),
    (lambda: refusing().sample([2, 3]), r"`n` must be .*whole number. Received: n=\[2, 3\]"),
    (lambda: refusing().sample(-1), "`n` must be at least 0"),
    (lambda: refusing().sample(3, temperature="a"), "`temperature` must not be negative"),
    (lambda: refusing().sample(3, temperature=float("nan")), "`temperature` must not be negative"),
    (lambda: logdet.LogDet("geometric"), "`coefficients` must be .*Received: coefficients=geo"),
    (lambda: logdet.LogDet(logdet.Geometric), "`coefficients` must be"),
    (lambda: logdet.LogDet(gradient="neumann"), "`gradient` must be"),
    (lambda: logdet.LogDet(gradient=solvers.Neumann()), "`gradient` must be"),
    (lambda: logdet.LogDet(memory="tape"), "`memory` must be"),
    (lambda: logdet.LogDet(probe="normal"), "`probe` must be"),
    (lambda: logdet.Geometric("a"), r"`p` must be in \(0, 1\). Received: p=a"),
    (lambda: logdet.Poisson(float("inf")), "`rate` must be positive. Received: rate=inf"),
    (lambda: solvers.Picard(rtol="a"), "`rtol` must not be negative. Received: rtol=a"),
    (lambda: solvers.Anderson(ridge="a"), "`ridge` must be positive"),
    (lambda: solvers.Neumann(lipschitz="a"), r"`lipschitz` must be in \[0, 1\)"),
    (lambda: solvers.FixedPoint(start="uniform", seed="a"), "`seed` must be an integer, or None"),
])
def test_one_line_names_argument_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_less_of_a_score_is_better_without_mode(tmp_path):
    stop = keras.callbacks.EarlyStopping(monitor="val_bpd", patience=9)
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "best.weights.h5", monitor="val_nll",
                                           save_best_only=True, save_weights_only=True)
    x = tf.sigmoid(data(64))  # in [0, 1], as images are
    logs = compiled(toy_model(nbits=8)).fit(x, epochs=3, verbose=0, callbacks=[stop, keep],
                                            validation_data=(x,)).history
    assert float(stop.best) == min(logs["val_bpd"]) and float(keep.best) == min(logs["val_nll"])


def test_a_base_of_variables_is_trained_and_saved(tmp_path):
    def model():
        mean = tf.Variable([0.0, 0.0], name="mean")
        return compiled(toy_model(tfd.MultivariateNormalDiag(mean, tf.ones(2))))

    it, other = model(), model()
    it.fit(data(64), epochs=2, verbose=0)
    mean = it.base.mean().numpy()
    assert np.abs(mean).min() > 1e-3
    it.save_weights(tmp_path / "it.weights.h5")
    other.load_weights(tmp_path / "it.weights.h5")
    np.testing.assert_array_equal(other.base.mean(), mean)
    np.testing.assert_array_equal(other.log_prob(data(8)), it.log_prob(data(8)))
    with pytest.raises(ValueError, match="`use_ema` must be False"):
        compiled(model(), use_ema=True)


def test_frozen_layers_are_warned_of_as_keras_does():
    model = toy_model()
    model.trainable = False
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        logs = compiled(model, use_ema=True).fit(data(32), epochs=1, verbose=0).history
    assert np.isfinite(logs["nll"]).all() and int(model.optimizer.iterations.numpy()) == 1


def test_a_file_of_the_old_kind_is_refused(tmp_path):
    """Keras would write it, and load nothing from it."""
    with pytest.raises(ValueError, match="`filepath` must end in .keras"):
        toy_model().save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())


class Scored(FlowModel):
    """Returns a number of one batch from its step of evaluation."""

    def test_step(self, data):
        return {**super().test_step(data), "largest": 3.0}


def test_what_evaluation_would_drop_is_refused():
    with pytest.raises(ValueError, match=r"`test_step` must return .* Received: \['largest'\]"):
        compiled(Scored(toy_model().flow)).evaluate(X, verbose=0)
