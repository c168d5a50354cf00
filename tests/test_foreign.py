"""Members of TFP's in a chain: trained, and what cannot be one."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from tests.registry import actnorm, build, example
from tfresflow import FlowModel, logdet

tfb = tfp.bijectors


def fit(flow, x):
    model = FlowModel(flow)
    model.compile(keras.optimizers.Adam(1e-2))
    before = [v.numpy() for v in flow.trainable_variables]
    history = model.fit(x, batch_size=16, epochs=2, verbose=0).history["nll"]
    assert np.all(np.isfinite(history))
    moved = [np.abs(v - w).max() for v, w in zip(flow.trainable_variables, before)]
    assert all(m > 1e-4 for m in moved), moved
    return model


@pytest.mark.fast("Chain_with_tfp")
@pytest.mark.parametrize("name", ["Chain_with_tfp", "Chain_tfp_constants", "Chain_tfp_variables"])
def test_chains_with_members_of_tfp_train_sample_and_save(name, tmp_path):
    flow, x = build(name, 32)
    model = fit(flow, x)
    assert model.sample(3, seed=0).shape == [3, *flow.event_shape]
    assert np.isfinite(model.evaluate(x, verbose=0)).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_prob(x), model.log_prob(x))
    assert np.isfinite(loaded.fit(x, verbose=0).history["nll"]).all()


def networks():
    """One that TFP lists, one that is hidden in a function, and a Keras layer in a function."""
    dense = keras.layers.Dense(2)
    return bijectors.Chain([
        tfb.Invert(tfb.MaskedAutoregressiveFlow(tfb.AutoregressiveNetwork(
            params=2, hidden_units=[4], event_shape=[2], activation="tanh"))),
        tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=lambda x, _: tf.split(dense(x), 2, -1)),
        tfb.Permute([1, 0]), tfb.RealNVP(
            num_masked=1, shift_and_log_scale_fn=tfb.real_nvp_default_template([4], None, tf.tanh)
        )], [2])


def test_networks_of_tfp_bijectors_are_trained(tmp_path):
    x = tf.cast(example([2], 32), tf.float32)
    flow = networks()
    assert len(flow.trainable_variables) == 10
    model = fit(flow, x)
    with pytest.raises(TypeError, match="`Invert.bijector.shift_and_log_scale_fn` cannot be saved"):
        model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    other = FlowModel(networks())
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.log_prob(x), model.log_prob(x))


def test_a_chain_of_tfp_is_its_members():
    """An ActNorm in it starts from the data, a block has the estimator of evaluation."""
    flow = bijectors.Chain([tfb.Chain([tfb.Softplus(), bijectors.ActNorm([3], dtype="float64")]),
                            build("InvertibleResidual_dense")[0]])
    assert [type(b).__name__ for b in flow.bijectors] == ["Foreign", "ActNorm",
                                                          "InvertibleResidual"]
    flow.initialize(5 + example([3], 50))
    assert np.abs(flow.layers[1].shift).min() > 1
    estimator = logdet.LogDet(logdet.Truncated(1))
    assert flow.with_log_det(estimator).bijectors[2].log_det is estimator


def test_values_follow_the_variables():
    """TFP remembers what it made of a tensor, whatever has become of the variables."""
    factor = tf.Variable(tf.constant(2.0, tf.float64))
    flow, x = bijectors.Foreign(tfb.Scale(factor), [3]), example([3])
    z = flow.forward_and_log_det(x)[0]
    factor.assign(4.0)
    np.testing.assert_allclose(flow.forward_and_log_det(x)[0], 2 * z)
    np.testing.assert_allclose(flow.forward_and_log_det(x)[1], 3 * np.log(4.0) * np.ones(3))
    np.testing.assert_allclose(flow.inverse_alone(x), x / 4)


def test_a_member_of_another_dtype_is_named():
    flow = bijectors.Chain([actnorm([2]), tfb.Shift([1.0, 2.0])], [2])
    with pytest.raises(ValueError, match="`x` must have the dtype of the parameters of shift, fl"):
        flow.forward_and_log_det(example([2]))


@pytest.mark.parametrize("make, message", [
    (lambda: bijectors.Foreign(3, [2]), "`bijector` must be an injective bijector of TFP, .*: 3"),
    (lambda: bijectors.Chain([tfb.AbsoluteValue()], [2]), "`bijectors` must be an injective"),
    (lambda: bijectors.Chain([tfb.Scale([[1.0], [2.0]])], [2]),
     "`bijector` must have one set of parameters for all examples"),
    (lambda: bijectors.Chain([tfb.Blockwise([actnorm([1]), build("toy_flow")[0]])], [3]),
     "`bijector` must not hold residual blocks"),
    (lambda: bijectors.Chain([tfb.Softplus()]), "`event_shape` must be given"),
])
def test_what_cannot_be_a_member(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_members_of_one_class_stay_apart_in_a_file(tmp_path):
    """Keras takes objects of one id for the same: what it is given must live while it saves."""
    shifts = [[float(i), 1.0] for i in range(40)]
    model = FlowModel(bijectors.Chain([tfb.Shift(tf.Variable(s)) for s in shifts], [2]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal([b.bijector.shift for b in loaded.flow.bijectors], shifts)


def test_a_member_that_is_there_twice_is_so_in_a_file(tmp_path):
    shift = tfb.Shift(tf.Variable([1.0, 2.0]))
    model = FlowModel(bijectors.Chain([shift, tfb.Scale(2.0), shift], [2]))
    model.save(tmp_path / "model.keras")
    first, _, last = keras.saving.load_model(tmp_path / "model.keras").flow.bijectors
    assert first.bijector is last.bijector


def test_a_variable_of_two_members_is_trained_once():
    """A step of SGD is that of the gradient, which is the sum of both."""
    v, x = tf.Variable([1.0, 2.0]), np.ones([8, 2], "float32")
    model = FlowModel(bijectors.Chain([tfb.Shift(v), tfb.Scale(2.0), tfb.Shift(v)], [2]))
    assert len(model.trainable_variables) == 1
    model.compile(keras.optimizers.SGD(0.1))
    with tf.GradientTape() as tape:
        nll = -tf.reduce_mean(model.log_prob(x))
    want = v - 0.1 * tape.gradient(nll, v)
    model.fit(x, batch_size=8, verbose=0)
    np.testing.assert_allclose(v, want, rtol=1e-6)
    with pytest.raises(TypeError, match="the variable Variable.* cannot be saved in a model"):
        model.get_config()
