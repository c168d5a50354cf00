"""Copies of flows and models: equal, alive, and with weights of their own."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import build, every_flow, example
from tfresflow import FlowModel, layers, logdet

tfb, tfd = tfp.bijectors, tfp.distributions


def outputs(flow, x):
    """Value and log-determinant, this one by an estimator that costs little."""
    flow = flow.with_log_det(logdet.LogDet(logdet.Truncated(1)))
    return [t.numpy() for t in flow.forward_and_log_det(x, seed=1)]


def config(flow):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(flow)))


def move(variables):
    for variable in variables:
        variable.assign(1.1 * variable + 0.01)


def check_copy(new, flow, x):
    """Equal, alive (its variables are those that it computes with), and of its own weights."""
    want = outputs(flow, x)
    for got, value in zip(outputs(new, x), want):
        np.testing.assert_array_equal(got, value)
    assert config(new) == config(flow)
    weights = {id(w.value) for layer in new.layers for w in layer.weights}
    assert {id(v) for v in new.variables} == weights
    assert len(new.trainable_variables) == len(flow.trainable_variables)
    assert not weights & {id(v) for v in flow.variables}
    move(new.trainable_variables)
    if new.trainable_variables:
        assert np.abs(outputs(new, x)[0] - want[0]).max() > 1e-4
        assert not want[1].any() or np.abs(outputs(new, x)[1] - want[1]).max() > 1e-4


@every_flow
def test_a_copy_is_equal_and_has_weights_of_its_own(name):
    flow, x = build(name)
    check_copy(copy.deepcopy(flow), flow, x)


@pytest.mark.fast(but=["toy_flow"])
@pytest.mark.parametrize("name", ["ActNorm", "FactorOut", "Chain_tfp_variables", "toy_flow"])
def test_a_pickled_flow(name):
    flow, x = build(name)
    check_copy(pickle.loads(pickle.dumps(flow)), flow, x)


@pytest.mark.fast(but=["toy_flow-copy"])
@pytest.mark.parametrize("way", [copy.copy, lambda flow: flow.copy()], ids=["copy", "flow.copy"])
@pytest.mark.parametrize("name", ["ActNorm", "FactorOut", "Chain_tfp_variables", "toy_flow"])
def test_a_shallow_copy_shares_the_weights(name, way):
    flow, x = build(name)
    new = way(flow)
    assert new is not flow and type(new) is type(flow)
    assert [id(v) for v in new.trainable_variables] == [id(v) for v in flow.trainable_variables]
    move(flow.trainable_variables)
    np.testing.assert_array_equal(outputs(new, x)[0], outputs(flow, x)[0])


def test_a_copy_with_other_arguments_begins_with_the_weights():
    flow, x = build("ActNorm")
    new = flow.copy(name="other")
    np.testing.assert_array_equal(outputs(new, x)[0], outputs(flow, x)[0])
    assert new.name == "other"


def test_a_copy_keeps_what_was_set_after_it_was_made():
    flow, x = build("InvertibleResidual_dense")
    flow.log_det = logdet.LogDet(logdet.Truncated(1))
    want = flow.forward_and_log_det(x, seed=1)[1]
    for new in (copy.copy(flow), copy.deepcopy(flow)):
        np.testing.assert_array_equal(new.forward_and_log_det(x, seed=1)[1], want)
    new.branch = None
    assert flow.branch is not None


class _Halved(keras.layers.Layer):
    """Keras does not know it by name."""

    lipschitz = 0.5

    def call(self, x):
        return 0.5 * x


def test_a_branch_of_a_class_that_is_not_registered():
    flow = bijectors.InvertibleResidual(keras.Sequential([_Halved(dtype="float64")]), [2])
    x = example([2])
    np.testing.assert_allclose(copy.deepcopy(flow).forward_and_log_det(x, seed=0)[0], 1.5 * x)


def test_members_that_are_one_stay_one():
    block = bijectors.ActNorm([2], dtype="float64")
    factor = tf.Variable(tf.constant([2.0, 3.0], tf.float64))
    flow = bijectors.Chain([block, tfb.Scale(factor), block, tfb.Shift(factor)], [2])
    new = copy.deepcopy(flow)
    assert len(new.trainable_variables) == len(flow.trainable_variables) == 3
    assert new.bijectors[0] is new.bijectors[2]
    move(new.trainable_variables)
    scale, shift = new.bijectors[1], new.bijectors[3]
    np.testing.assert_allclose(scale.bijector.scale, shift.bijector.shift)
    assert np.abs(scale.bijector.scale - factor).min() > 0.1


def test_a_bijector_of_tfp_that_holds_a_flow():
    flow, x = build("ActNorm_per_element")
    new = copy.deepcopy(bijectors.Chain([tfb.Invert(flow)], [4]))
    z = flow.forward_and_log_det(x)[0]
    np.testing.assert_allclose(new.inverse_alone(x), z, rtol=1e-12)
    move(new.trainable_variables)
    assert np.abs(new.inverse_alone(x) - z).max() > 0.01


def test_a_network_in_a_bijector_of_tfp_says_that_it_cannot_be_copied():
    network = tfb.AutoregressiveNetwork(params=2, hidden_units=[3], event_shape=[2])
    flow = bijectors.Chain([tfb.Invert(tfb.MaskedAutoregressiveFlow(network))], [2])
    with pytest.raises(TypeError, match="`bijector` cannot be copied, .*AutoregressiveNetwork"):
        copy.deepcopy(flow)
    np.testing.assert_array_equal(flow.copy().layers[0].weights[0], flow.layers[0].weights[0])


def small_model(base=None):
    model = FlowModel(flows.toy_flow(nblocks=1, dims=(4,), seed=0, log_det=logdet.Exact()), base)
    model.compile(keras.optimizers.Adam(1e-2))
    model.fit(tf.cast(example([2], 32), tf.float32), verbose=0)
    return model


@pytest.mark.slow
def test_a_model():
    """With its optimizer, and a base of TFP's."""
    model = small_model(tfd.Sample(tfd.StudentT(5.0, 0.0, 1.0), 2))
    x = tf.cast(example([2]), tf.float32)
    want, new = model.log_prob(x), copy.deepcopy(model)  # as `pickle` does it
    np.testing.assert_array_equal(new.log_prob(x), want)
    assert int(new.optimizer.iterations) == 1 and int(new.initialized) == 1
    new.fit(tf.cast(example([2], 32), tf.float32), verbose=0)
    assert np.abs(new.log_prob(x) - want).max() > 1e-4
    np.testing.assert_array_equal(model.log_prob(x), want)


def test_a_clone_has_new_weights():
    model = small_model()
    clone = keras.models.clone_model(model)
    assert [w.shape for w in clone.weights] == [w.shape for w in model.weights]
    assert int(clone.initialized) == 0
    clone.set_weights(model.get_weights())
    x = tf.cast(example([2]), tf.float32)
    np.testing.assert_array_equal(clone.log_prob(x), model.log_prob(x))
    assert isinstance(clone.flow.bijectors[1].branch.layers[0], layers.InducedNormDense)
