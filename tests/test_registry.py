"""Laws that every bijector and every flow obeys."""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import (NOISY, QUICK, REGISTRY, build, every_bijection, every_flow, example,
                            shared)
from tfresflow import layers
from tfresflow.functions.function import Function

tfb, tfd = tfp.bijectors, tfp.distributions


def check_round_trip(flow, x):
    """`inverse(forward(x)) = x`, past TFP's cache."""
    z = tf.identity(flow.forward(x, seed=0))
    np.testing.assert_allclose(flow.inverse(z), x, rtol=0, atol=1e-9)
    _, log_det = flow.forward_and_log_det(x, seed=0)
    x_again, inverse_log_det = flow.inverse_and_log_det(z, seed=0)
    np.testing.assert_allclose(x_again, x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)


@every_flow
def test_inverse_undoes_forward(name):
    check_round_trip(*shared(name))


class _WrongInverse(bijectors.ActNorm):
    def inverse_and_log_det(self, z, seed=None):
        x, log_det = super().inverse_and_log_det(z, seed)
        return x + 1e-3, log_det


def test_a_wrong_inverse_is_caught():
    x = example([3])
    check_round_trip(bijectors.ActNorm([3], dtype="float64"), x)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        check_round_trip(_WrongInverse([3], dtype="float64"), x)


@every_bijection
def test_log_det_is_that_of_the_jacobian(name):
    flow, x = shared(name)
    with tf.GradientTape() as tape:
        tape.watch(x)
        z, log_det = flow.forward_and_log_det(x)
        z = tf.reshape(z, [len(x), -1])
    size = z.shape[1]
    jacobian = tf.reshape(tape.batch_jacobian(z, x), [-1, size, size])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
    fldj = flow.forward_log_det_jacobian(tf.identity(x), event_ndims=x.shape.rank - 1)
    np.testing.assert_allclose(fldj, log_det, rtol=1e-9, atol=1e-9)


@every_flow
def test_traced_with_unknown_batch_is_the_same_as_eager(name):
    flow, x = shared(name)
    signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype)]
    z, log_det = flow.forward_and_log_det(x, seed=3)
    traced = tf.function(lambda x: flow.forward_and_log_det(x, seed=3), input_signature=signature)
    for got, want in zip(traced(x), (z, log_det)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
    inverse = tf.function(flow.inverse, input_signature=[
        tf.TensorSpec([None, *z.shape[1:]], z.dtype)])
    np.testing.assert_allclose(inverse(z), x, rtol=0, atol=1e-9)


@every_flow
def test_shapes_are_told_and_leading_dimensions_kept(name):
    flow, x = shared(name, n=6)
    z = flow.forward(x, seed=0)
    assert flow.forward_event_shape(x.shape[1:]) == z.shape[1:]
    assert flow.inverse_event_shape(z.shape[1:]) == x.shape[1:]
    assert flow.latent_shape(flow.event_shape) == tuple(z.shape[1:])
    folded = tf.reshape(x, [2, 3, *x.shape[1:]])
    np.testing.assert_allclose(flow.forward(folded, seed=0), tf.reshape(z, [2, 3, *z.shape[1:]]),
                               rtol=1e-10, atol=1e-10)
    log_det = flow.forward_log_det_jacobian(folded, event_ndims=x.shape.rank - 1)
    assert log_det.shape == [2, 3]
    np.testing.assert_allclose(flow.forward(x[0], seed=0), z[0], rtol=1e-10, atol=1e-10)


@every_flow
def test_every_weight_gets_a_gradient(name):
    flow, x = shared(name)
    with tf.GradientTape() as tape:
        z, log_det = flow.forward_and_log_det(x)
        loss = tf.reduce_sum(z ** 2) - tf.reduce_sum(log_det)
    gradients = tape.gradient(loss, flow.trainable_variables)
    trainable = [v for layer in flow.layers for v in layer.trainable_variables]
    assert len(flow.trainable_variables) == len(trainable)
    dead = [v.path for v, g in zip(trainable, gradients) if g is None or not np.any(g)]
    assert not dead


@every_bijection
def test_composes_with_tfp(name):
    """Invert, Chain and TransformedDistribution: weights, samples and densities."""
    flow, _ = shared(name)
    latent = flow.latent_shape(flow.event_shape)
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 0.3), latent)
    dist = tfd.TransformedDistribution(base, tfb.Invert(flow))
    assert len(dist.trainable_variables) == len(flow.trainable_variables)
    x = tf.identity(dist.sample(5, seed=1))
    z, log_det = flow.forward_and_log_det(x)
    np.testing.assert_allclose(dist.log_prob(x), base.log_prob(z) + log_det, rtol=1e-7)
    doubled = tfb.Chain([tfb.Scale(tf.constant(2.0, tf.float64)), flow])
    np.testing.assert_allclose(doubled.forward(x), 2 * z, rtol=1e-9, atol=1e-9)
    size = np.prod(latent)
    np.testing.assert_allclose(doubled.forward_log_det_jacobian(tf.identity(x), x.shape.rank - 1),
                               log_det + size * np.log(2), rtol=1e-7, atol=1e-9)
    assert len(doubled.trainable_variables) == len(flow.trainable_variables)


@every_flow
def test_saves_and_restores(name):
    flow, x = shared(name)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(flow)))
    copy = keras.saving.deserialize_keras_object(config)
    for new, old in zip(copy.layers, flow.layers):
        new.set_weights(old.get_weights())
    for got, want in zip(copy.forward_and_log_det(x, seed=0),
                         flow.forward_and_log_det(x, seed=0)):
        np.testing.assert_array_equal(got, want)


@pytest.mark.fast(*(name for name in QUICK if name not in {
    "toy_flow", "InvertibleResidual_dense", "Given", *NOISY}))
@pytest.mark.parametrize("name", [name for name in REGISTRY if name not in NOISY])
def test_two_replicas_see_one_function(name, mirrored):
    with mirrored.scope():
        flow, x = build(name, n=4)
    want = flow.forward_and_log_det(x)
    halves = mirrored.experimental_distribute_values_from_function(
        lambda context: tf.split(x, 2)[context.replica_id_in_sync_group])
    run = tf.function(lambda x: mirrored.run(flow.forward_and_log_det, [x]))
    for got, whole in zip(run(halves), want):
        parts = mirrored.experimental_local_results(got)
        np.testing.assert_allclose(tf.concat(parts, 0), whole, rtol=1e-10, atol=1e-10)


class _Counting(layers.Identity):
    """The identity, and how often it was run (in eager mode) or built into a graph."""

    count = 0

    @property
    def function(self):
        return _Counted(self)


@dataclasses.dataclass(frozen=True, eq=False)
class _Counted(Function):
    layer: _Counting
    shareable = False

    def __call__(self, weights, x):
        self.layer.count += 1
        return x


@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_one_log_prob_evaluates_each_g_once(wrap):
    """TFP asks for the latent and for the log-determinant: one evaluation answers both."""
    counters = [_Counting(dtype="float64") for _ in range(2)]
    flow = bijectors.Chain([bijectors.InvertibleResidual(keras.Sequential(
        [layers.InducedNormDense(3, 0.5, dtype="float64"), counter]), [3]) for counter in counters])
    dist = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0), [3]), tfb.Invert(flow))
    for counter in counters:
        counter.count = 0
    x = example([3])
    wrapped = wrap(lambda x: dist.log_prob(x, bijector_kwargs={"seed": 3}))
    z, log_det = flow.forward_and_log_det(x, seed=3)
    counts = [counter.count for counter in counters]
    np.testing.assert_allclose(wrapped(tf.identity(x)), dist.distribution.log_prob(z) + log_det)
    assert [counter.count - count for counter, count in zip(counters, counts)] == [1, 1]


# A head, and what reads models of other libraries: their architectures are those of the registry.
OTHERS = {"scale_head", "from_normflows", "from_reference", "load_reference", "reference_average",
          "to_reference"}


def test_registry_is_complete():
    """A public class or architecture that is not tried by the laws is a failure."""
    public = [n for n in bijectors.__all__ if inspect.isclass(getattr(bijectors, n))]
    public = set(public) - {"Flow"} | {
        n for n in flows.__all__ if inspect.isfunction(getattr(flows, n))} - OTHERS
    assert public <= {name if name in public else name.split("_")[0] for name in REGISTRY}
