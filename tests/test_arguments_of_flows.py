"""Sizes and activations as users name them, in every architecture and layer."""

import functools
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import bijectors
from bijectors import flows, norm_report
from tests.registry import EXACT, example
from tfresflow import layers, logdet
from tfresflow.layers.linear import CONTRACTIONS

INT = np.int64


@pytest.mark.fast(but=["<lambda>-<lambda>1", "<lambda>-<lambda>3"])
@pytest.mark.parametrize("make, same", [
    (lambda: flows.toy_flow(2, nblocks=INT(1), dims=4, **EXACT),
     lambda: flows.toy_flow([2], nblocks=1, dims=(4,), **EXACT)),
    (lambda: flows.toy_flow(tf.TensorShape([2]), nblocks=1, dims=np.array([4, 3]), **EXACT),
     lambda: flows.toy_flow((2,), nblocks=1, dims=(4, 3), **EXACT)),
    (lambda: flows.tabular_flow(INT(3), nblocks=1, dims=INT(4), **EXACT),
     lambda: flows.tabular_flow([3], nblocks=1, dims=(4,), **EXACT)),
    (lambda: flows.image_flow(tf.TensorShape([2, 2, 1]), nblocks=INT(1), idim=INT(4),
                              kernels=np.array([3, 1]), fc_idim=INT(4), n_fc_blocks=INT(1),
                              **EXACT),
     lambda: flows.image_flow([2, 2, 1], nblocks=(1,), idim=4, kernels=(3, 1), fc_idim=4,
                              n_fc_blocks=1, **EXACT)),
    (lambda: flows.toy_flow(2, nblocks=1, orders=INT(2), coeff=np.float64(0.9), act="clipswish",
                            dense_net=flows.DenseNet(INT(1), INT(3)), **EXACT),
     lambda: flows.toy_flow([2], nblocks=1, orders=2, coeff=0.9, act=layers.CLipSwish,
                            dense_net=flows.DenseNet(1, 3), **EXACT)),
    (lambda: flows.phi4_flow(INT(3), nblocks=INT(1), idim=INT(2), act="sin", **EXACT),
     lambda: flows.phi4_flow([3, 3, 1], nblocks=1, idim=2, act=layers.Sin, **EXACT)),
    (lambda: flows.u1_flow(tf.TensorShape([3, 4]), nblocks=1, idim=2, kernels=(3, 1), **EXACT),
     lambda: flows.u1_flow((3, 4, 2), nblocks=1, idim=2, kernels=np.array([3, 1]), **EXACT)),
    (lambda: bijectors.ActNorm(3), lambda: bijectors.ActNorm([3])),
    (lambda: bijectors.ActNorm(np.array([2, 3]), per_element=True),
     lambda: bijectors.ActNorm([2, 3], per_element=True)),
    (lambda: bijectors.Squeeze(tf.TensorShape([2, 2, 1]), factor=INT(2)),
     lambda: bijectors.Squeeze([2, 2, 1])),
    (lambda: bijectors.Flatten(INT(3)), lambda: bijectors.Flatten([3])),
    (lambda: bijectors.Logit(np.array([2, 1])), lambda: bijectors.Logit([2, 1])),
    (lambda: bijectors.FactorOut(bijectors.ActNorm(1), 2),
     lambda: bijectors.FactorOut(bijectors.ActNorm([1]), [2])),
    (lambda: bijectors.Chain([bijectors.ActNorm(2)], event_shape=tf.TensorShape([2])),
     lambda: bijectors.Chain([bijectors.ActNorm([2])])),
    (lambda: bijectors.ColumnSupports(2, {0: "positive"}),
     lambda: bijectors.ColumnSupports([2], ["positive", "real"])),
    (lambda: bijectors.InvertibleResidual(keras.Sequential(
        [layers.InducedNormDense(INT(2), np.float64(0.5), kernel_initializer="ones")]), INT(2)),
     lambda: bijectors.InvertibleResidual(keras.Sequential(
         [layers.InducedNormDense(2, 0.5, kernel_initializer="ones")]), [2])),
])
def test_sizes_of_any_kind(make, same):
    """The same flow, and one that Keras saves."""
    flow, want = make(), same()
    assert flow.event_shape == want.event_shape and type(flow.event_shape[0]) is int
    x = example(want.event_shape, 2, unit=True)
    for got, expected in zip(flow.forward_and_log_det(x, 0), want.forward_and_log_det(x, 0)):
        np.testing.assert_array_equal(got, expected)
    config = json.dumps(keras.saving.serialize_keras_object(flow))
    assert keras.saving.deserialize_keras_object(json.loads(config)).event_shape == want.event_shape


@pytest.mark.parametrize("layer, kernel", [
    (lambda: layers.InducedNormConv1D(INT(3), INT(2)), (2, 1, 3)),
    (lambda: layers.InducedNormConv2D(INT(3), np.array([2, 1])), (2, 1, 1, 3)),
    (lambda: layers.InducedNormConv3D(np.int32(3), tf.TensorShape([2, 1, 1])), (2, 1, 1, 1, 3)),
    (lambda: layers.InducedNormDense(INT(3)), (1, 3))])
def test_sizes_of_layers(layer, kernel):
    layer = layer()
    layer.build((None, *[2] * (len(kernel) - 2), 1))
    assert tuple(layer.kernel.shape) == kernel
    json.dumps(keras.saving.serialize_keras_object(layer))


@pytest.mark.parametrize("make, argument", [
    (lambda bad: flows.toy_flow(bad), "event_shape"),
    (lambda bad: flows.toy_flow(nblocks=bad), "nblocks"),
    (lambda bad: flows.toy_flow(dims=bad), "dims"),
    (lambda bad: flows.tabular_flow(bad), "event_shape"),
    (lambda bad: flows.image_flow(bad), "event_shape"),
    (lambda bad: flows.image_flow([2, 2, 1], nblocks=bad), "nblocks"),
    (lambda bad: flows.image_flow([2, 2, 1], nblocks=1, kernels=bad), "kernels"),
    (lambda bad: bijectors.ActNorm(bad), "event_shape"),
    (lambda bad: bijectors.Logit(bad), "event_shape"),
    (lambda bad: bijectors.Squeeze(bad), "event_shape"),
    (lambda bad: bijectors.Squeeze([2, 2, 1], bad), "factor"),
    (lambda bad: layers.InducedNormDense(bad), "units"),
    (lambda bad: layers.InducedNormConv1D(bad, 3), "filters"),
    (lambda bad: layers.InducedNormConv3D(3, bad), "kernel_size")])
@pytest.mark.parametrize("bad", [2.5, 0, "a", None, [], [-1], tf.TensorShape([None, 2])], ids=str)
def test_what_is_no_size_is_refused(make, argument, bad):
    with pytest.raises(ValueError, match=f"^`{argument}` must be .*Received: {argument}="):
        make(bad)


@pytest.mark.parametrize("name, bad, message", [
    ("log_det", "exact", "of tfresflow.logdet"),
    ("log_det", logdet.Exact, "of tfresflow.logdet"),
    ("solver", "anderson", "a fixed-point solver"), ("adjoint", "cg", "a linear solver"),
    ("power_iteration", 5, "a layers.PowerIteration"), ("dense_net", (2, 4), "a flows.DenseNet"),
    ("power_iteration", layers.PowerIteration, "a layers.PowerIteration"),
    ("seed", "a", "a whole number"), ("seed", 1.5, "a whole number"),
    ("orders", "2", "one for each"),
    ("nblocks", "4", "a whole number"), ("logit_alpha", "a", "in (0, 0.5)"),
    ("idim", 0, "at least 1"), ("fc_idim", "a", "at least 1"), ("n_fc_blocks", -1, "at least 0")])
def test_objects_are_asked_for_by_name(name, bad, message):
    """As are the arguments that architectures hand on."""
    image = name in ("logit_alpha", "idim", "fc_idim", "n_fc_blocks")
    name_there = "alpha" if name == "logit_alpha" else name
    with pytest.raises(ValueError, match=f"^`{name_there}` must be .*{re.escape(message)}"):
        if image:
            flows.image_flow([2, 2, 1], **{"nblocks": 1, "idim": 4, "fc_idim": 4, name: bad})
        else:
            flows.toy_flow(**{"nblocks": 1, "dims": 4, name: bad})


@pytest.mark.parametrize("branch", [lambda x: x, layers.InducedNormDense, None, [layers.ReLU()]],
                         ids=["function", "class", "None", "list"])
def test_a_branch_is_a_layer(branch):
    for make in (lambda: bijectors.InvertibleResidual(branch, [2]),
                 lambda: layers.LipschitzConcatenation(branch)):
        with pytest.raises(ValueError, match="`branch` must be a Keras layer. Received: branch="):
            make()


def test_a_seed_of_numpy_is_that_of_python():
    flow, same = (flows.toy_flow(nblocks=1, dims=4, seed=seed) for seed in (np.int64(3), 3))
    x = example([2])
    np.testing.assert_array_equal(flow.forward(x), same.forward(x))


@pytest.mark.parametrize("make", [
    lambda: layers.InducedNormDense(3), lambda: layers.InducedNormConv1D(3, 2), layers.LipSwish,
    layers.MaxMin, layers.CLipSwish, lambda: layers.KerasActivation("relu"),
    lambda: layers.LipschitzConcatenation(layers.InducedNormDense(2))], ids=range(7))
def test_layers_take_integers(make):
    """As Keras's own do."""
    layer, x = make(), tf.constant([[[1, 2], [3, 4], [5, 6]]])
    np.testing.assert_array_equal(layer(x), layer(tf.cast(x, tf.float32)))


@pytest.mark.parametrize("coeff", [0, 1, "0.9", None, [0.9], np.nan])
def test_what_is_no_bound_is_refused(coeff):
    with pytest.raises(ValueError, match=r"`coeff` must be in \(0, 1\)"):
        flows.toy_flow(nblocks=1, coeff=coeff)


# Activations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({f.__name__ for f in keras.src.activations.ALL_OBJECTS}))
def test_those_of_keras_are_accepted_if_they_are_no_steeper_than_one(name):
    """Measured: the largest slope on a fine grid, infinite where it jumps."""
    function = keras.activations.get(name)
    x = np.linspace(-12, 12, 480_002)[:, None]  # without a channel to mix with
    if name in ("glu", "softmax", "log_softmax", "sparsemax", "threshold"):
        slope = np.inf  # they mix channels, or take arguments
    else:
        y = function(tf.constant(x)).numpy()
        slope = np.abs(np.diff(y, axis=0) / np.diff(x, axis=0)).max()
    assert (name in CONTRACTIONS) == (slope <= 1 + 1e-6), slope
    if name not in CONTRACTIONS:
        with pytest.raises(ValueError, match="`activation` must be one of .* slope is at most 1"):
            layers.InducedNormDense(3, activation=name)


@pytest.mark.parametrize("act, kind", [
    ("relu", layers.ReLU), ("swish", layers.LipSwish), ("silu", layers.LipSwish),
    ("LipSwish", layers.LipSwish), ("clipswish", layers.CLipSwish), ("lcube", layers.LipschitzCube),
    ("maxmin", layers.MaxMin), ("softsign", layers.KerasActivation), (tf.nn.relu, layers.ReLU),
    (keras.activations.elu, layers.ELU), (keras.activations.sigmoid, layers.KerasActivation),
    (keras.ops.tanh, layers.Tanh), (tf.sin, layers.Sin), (tf.nn.swish, layers.LipSwish),
    (keras.layers.ReLU, layers.ReLU), (keras.layers.ReLU(), layers.ReLU),
    (keras.layers.Activation("softplus"), layers.Softplus), (layers.Sin, layers.Sin),
    (layers.LipSwish(beta=2.0), layers.LipSwish), (layers.CLipSwish(beta=2.0), layers.CLipSwish),
    (functools.partial(layers.CLipSwish, beta=2.0), layers.CLipSwish),
    (lambda dtype: layers.Concatenated(layers.Sin(dtype=dtype), dtype=dtype), layers.Concatenated)])
def test_activations_by_name_function_or_layer(act, kind):
    make = layers.as_activation(act)
    one, other = make(dtype="float64"), make(dtype="float64")
    assert type(one) is type(other) is kind and one is not other and one.dtype == "float64"
    if getattr(act, "beta", None) == 2.0:
        assert one.beta == 2.0


@pytest.mark.parametrize("act", [
    "gelu", "nonsense", None, 3, keras.activations.gelu, keras.activations.exponential, tf.nn.gelu,
    tf.square, keras.layers.Softmax, keras.layers.PReLU, keras.layers.ReLU(negative_slope=2.0),
    keras.layers.ELU(alpha=3.0), keras.layers.Dense(3), keras.layers.Activation("selu"),
    lambda x: x ** 2, lambda dtype: keras.layers.Dense(3, dtype=dtype)],
    ids=lambda act: getattr(act, "__name__", str(act)))
def test_other_activations_are_refused(act):
    with pytest.raises(ValueError, match="`act` must be a layer that says `lipschitz`, at most 1"):
        flows.toy_flow(nblocks=1, dims=4, act=act)


@pytest.mark.fast("softsign")
@pytest.mark.parametrize("act", ["softsign", "tanh_shrink"])
def test_a_flow_with_an_activation_of_keras(act):
    flow = flows.toy_flow(nblocks=1, dims=4, act=act, **EXACT)
    x = example([2])
    np.testing.assert_allclose(flow.inverse(tf.identity(flow.forward(x))), x, atol=1e-9)
    assert norm_report(flow).certified
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(flow))
    for new, old in zip(copy.layers, flow.layers):
        new.set_weights(old.get_weights())
    np.testing.assert_array_equal(copy.forward(x), flow.forward(x))
