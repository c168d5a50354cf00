"""What a bijector remembers between TFP's calls: never what belongs to other weights."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from tests.registry import build, example

tfb, tfd = tfp.bijectors, tfp.distributions


def normal(size):
    return tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), [size])


def gradients(flow, x, log_prob):
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(log_prob(x))
    return value, tape.gradient(value, flow.trainable_variables)


def test_a_training_loop_on_one_tensor():
    """Eagerly, each step has the density and the gradient of its own weights."""
    flow, x = build("InvertibleResidual_dense")
    dist = tfd.TransformedDistribution(normal(3), tfb.Invert(flow))
    for _ in range(3):
        got = gradients(flow, x, dist.log_prob)
        want = gradients(flow, tf.identity(x), dist.log_prob)
        tf.nest.map_structure(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), got, want)
        for variable in flow.trainable_variables:
            variable.assign(0.8 * variable)


def test_forward_follows_the_weights_though_its_last_result_is_kept():
    flow, x = build("ActNorm")
    z, log_det = flow.forward(x), flow.forward_log_det_jacobian(x)
    flow.layers[0].log_scale.assign_add(tf.ones([2], tf.float64))
    np.testing.assert_allclose(flow.forward(x), np.e * z, rtol=1e-12)
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x), log_det + 12, rtol=1e-12)


def test_a_log_det_is_gone_with_its_latent():
    flow, x = build("ActNorm")
    flow.forward(x)
    before = flow.forward_and_log_det(x)[1]
    flow.layers[0].log_scale.assign_add(tf.ones([2], tf.float64))
    np.testing.assert_allclose(flow.forward_log_det_jacobian(x), before + 12, rtol=1e-12)


def test_equal_bijectors_of_other_weights():
    """TFP's cache would take them for one."""
    one, other = (bijectors.ActNorm([2], dtype="float64") for _ in range(2))
    x = example([2])
    one.initialize(3 * x)
    z, log_det = one.forward(x), one.forward_log_det_jacobian(x)
    np.testing.assert_array_equal(other.forward(x), x)
    np.testing.assert_array_equal(other.forward_log_det_jacobian(x), tf.zeros(len(x)))
    assert np.abs(log_det).min() > 0.5 and np.abs(z - x).max() > 0.1
    chains = [tfb.Chain([tfb.Scale(tf.constant(2.0, tf.float64)), b]) for b in (one, other)]
    assert np.abs(chains[0].forward(x) - chains[1].forward(x)).max() > 0.1


@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_what_forward_made_is_not_solved_for(wrap):
    flow, x = build("InvertibleResidual_dense")
    flow.inverse_alone = lambda z: 1 / 0
    calls, pair = [], flow.forward_and_log_det
    flow.forward_and_log_det = lambda x, seed=None: calls.append(1) or pair(x, seed)
    dist = tfd.TransformedDistribution(normal(3), flow)  # as a variational posterior
    flow_of_noise = wrap(lambda x: dist.log_prob(flow.forward(x)))
    got = flow_of_noise(x)
    assert len(calls) <= 2
    np.testing.assert_allclose(got, normal(3).log_prob(x) - pair(x)[1], rtol=1e-9)


def test_a_traced_chain_of_tfp_evaluates_once():
    flow, x = build("InvertibleResidual_dense")
    calls, pair = [], flow.forward_and_log_det
    flow.forward_and_log_det = lambda x, seed=None: calls.append(1) or pair(x, seed)
    chain = tfb.Chain([tfb.Scale(tf.constant(2.0, tf.float64)), flow])

    @tf.function
    def call(x):
        return chain.forward(x), chain.forward_log_det_jacobian(x, 1)

    z, log_det = call(x)
    assert len(calls) == 1
    np.testing.assert_allclose(z, 2 * pair(x)[0], rtol=1e-9)
    np.testing.assert_allclose(log_det, pair(x)[1] + 3 * np.log(2), rtol=1e-9)


def test_nothing_goes_from_one_trace_to_another():
    """Of a tensor that both and eager execution use."""
    flow, x = build("ActNorm")
    want = flow.forward_and_log_det(x)
    for call in (tf.function(lambda: (flow.forward(x), flow.forward_log_det_jacobian(x))),
                 tf.function(lambda: (flow.forward(x), flow.forward_log_det_jacobian(x))),
                 lambda: (flow.forward(x), flow.forward_log_det_jacobian(x)),
                 tf.function(lambda: (flow.forward_log_det_jacobian(x),) * 2)):
        np.testing.assert_allclose(call()[1], want[1], rtol=1e-12)
    flow.forward(x)  # leaves a log-determinant that must not become a constant of the next
    late = tf.function(lambda: flow.forward_log_det_jacobian(x))
    late()
    flow.layers[0].log_scale.assign_add(tf.ones([2], tf.float64))
    np.testing.assert_allclose(late(), want[1] + 12, rtol=1e-12)


def test_no_graph_is_kept():
    flow, x = build("ActNorm")
    call = tf.function(lambda x: (flow.forward(x), flow.inverse(x), flow.forward(2 * x)))
    graph = weakref.ref(call.get_concrete_function(x).graph)
    assert graph() is not None
    del call
    gc.collect()
    assert graph() is None
