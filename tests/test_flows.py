"""Architectures: the reference's switches, shapes, and the published models."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import EXACT, example
from tfresflow import FlowModel, layers, logdet
from tfresflow.batches import seeds

tfb = tfp.bijectors

SMALL = {"nblocks": (2, 1), "idim": 4, "fc_idim": 4, "n_fc_blocks": 2, **EXACT}


def steps(flow):
    """Names of the types of all bijectors in the order in which data meets them."""
    for b in reversed(flow.bijectors):
        yield b
        if isinstance(b, bijectors.FactorOut):
            yield from steps(b.inner)


def kinds(flow):
    return "".join(type(b).__name__[0] for b in steps(flow))


@pytest.mark.fast("switches1-LIAIASIAFIAIA", "switches2-LIISIFII", "switches3-LAAIAAIAASIAAFIAIA",
                  "switches4-LAIAIASIAF")
@pytest.mark.parametrize("switches, expected", [
    ({}, "LAIAIASIAFIAIA"),
    ({"first_resblock": False}, "LIAIASIAFIAIA"),
    ({"actnorm": False}, "LIISIFII"),
    ({"fc_actnorm": True}, "LAAIAAIAASIAAFIAIA"),
    ({"fc_end": False}, "LAIAIASIAF"),
    ({"squeeze_first": True}, "LSAIAIASIAFIAIA"),
    ({"factor_out": True}, "LAIAIASFIAFIAIA"),
    ({"logit_alpha": None}, "AIAIASIAFIAIA"),
])
def test_order_of_bijectors(switches, expected):
    """As in the code published with the paper: Logit, Actnorm, Invertible block, Squeeze, F..."""
    assert kinds(flows.image_flow([8, 8, 1], **{**SMALL, **switches})) == expected


def activations_first(flow):
    return [isinstance(b.branch.layers[0], layers.LipSwish) for b in steps(flow)
            if isinstance(b, bijectors.InvertibleResidual)]


@pytest.mark.fast("False-True-expected2")
@pytest.mark.parametrize("preact, first_resblock, expected", [
    (True, True, [False, True, True, True, True]),
    (True, False, [True] * 5),
    (False, True, [False] * 5),
])
def test_where_blocks_begin_with_an_activation(preact, first_resblock, expected):
    flow = flows.image_flow([8, 8, 1], **SMALL, preact=preact, first_resblock=first_resblock)
    assert activations_first(flow) == expected


@pytest.mark.slow
def test_widths_and_kernels():
    flow = flows.image_flow([8, 8, 1], **SMALL, kernels=(5, 1, 3))
    first, *_, last = [b for b in steps(flow) if isinstance(b, bijectors.InvertibleResidual)]
    convs = [layer for layer in first.branch.layers if hasattr(layer, "kernel")]
    assert [c.kernel.shape for c in convs] == [(5, 5, 1, 4), (1, 1, 4, 4), (3, 3, 4, 1)]
    denses = [layer for layer in last.branch.layers if hasattr(layer, "kernel")]
    assert [d.kernel.shape for d in denses] == [(64, 4), (4, 4), (4, 64)]
    assert first.lipschitz == pytest.approx(0.98 ** 3)


@pytest.mark.slow
def test_factor_out_halves_what_goes_on():
    """One latent for every pixel, and later scales see half of the channels."""
    flow = flows.image_flow([8, 8, 1], **{**SMALL, "nblocks": (1, 1, 1)}, factor_out=True)
    sizes = [b.event_shape for b in steps(flow) if isinstance(b, bijectors.InvertibleResidual)]
    assert sizes == [(8, 8, 1), (4, 4, 2), (2, 2, 4), (16,), (16,)]
    assert flow.forward(example([8, 8, 1], 2, unit=True)).shape == [2, 64]


@pytest.mark.slow
def test_one_training_step_of_an_image_flow_moves_every_weight():
    flow = flows.image_flow([8, 8, 1], nblocks=(1, 1), idim=4, fc_idim=4, n_fc_blocks=1, seed=0)
    model = FlowModel(flow, nbits=8)
    model.compile(keras.optimizers.SGD(1.0))
    x = tf.cast(example([8, 8, 1], 8, unit=True), tf.float32)
    model.initialize(x)
    before = [v.numpy() for v in model.trainable_variables]
    logs = model.train_on_batch(x, return_dict=True)
    still = [v.path for v, old in zip(model.trainable_variables, before)
             if np.array_equal(v.numpy(), old)]
    assert not still and np.isfinite(logs["bpd"])


@pytest.mark.slow
def test_a_chain_is_its_blocks_one_by_one():
    """In the plane, where the series of all blocks are summed at once."""
    flow, x = flows.toy_flow((2,), nblocks=3, dims=(8, 8), seed=0, dtype="float64"), example([2], 6)
    flow.initialize(x)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        z, log_det = flow.forward_and_log_det(x, seed=3)
        each, total = x, 0.0
        for step, seed in zip(reversed(flow.bijectors), seeds.split(seeds.as_seed(3), 6)):
            each, own = step.forward_and_log_det(each, seed)
            total += own
    np.testing.assert_allclose(z, each, rtol=1e-12)
    np.testing.assert_allclose(log_det, total, rtol=1e-12)
    sources = [x, *(v.value for layer in flow.layers for v in layer.trainable_variables)]
    weights = tf.range(6, dtype=tf.float64)
    for got, want in zip(tape.gradient(log_det, sources, weights),
                         tape.gradient(total, sources, weights)):
        assert (got is None) == (want is None)
        if want is not None:
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("flow", [
    bijectors.ActNorm([4, 4, 3]), bijectors.Flatten([4, 4, 3]),
    bijectors.Chain([bijectors.Squeeze([4, 4, 3])]),
    bijectors.FactorOut(bijectors.ActNorm([4, 4, 2]), [4, 4, 4])], ids=lambda flow: flow.name)
def test_x_and_z_must_have_the_shape_of_the_flow(flow):
    """ActNorm would count the pixels of another image, Flatten change the number of examples."""
    space, channels = list(flow.event_shape[:-1]), flow.event_shape[-1]
    for shape in ([2, 2, 2, channels], [2, *space, channels + 2]):
        with pytest.raises(ValueError, match=r"`x` must be \[N, 4, 4, .*shape=\(2, "):
            flow.forward_and_log_det(tf.zeros(shape))
    for pair in (flow.inverse_and_log_det, flow.inverse_alone):
        with pytest.raises(ValueError, match=r"`z` must be \[N, "):
            pair(tf.zeros([5, 3]))
    traced = tf.function(flow.forward_and_log_det, autograph=False,
                         input_signature=[tf.TensorSpec([None, *flow.event_shape])])
    assert traced(tf.ones([3, *flow.event_shape]))[1].shape == 3


@pytest.mark.slow
def test_a_densenet_is_made_anew_while_a_function_is_traced():
    flow = flows.toy_flow(nblocks=1, preact=True, dense_net=flows.DenseNet(2, 4), seed=0)

    def exact(x):
        return flow.with_log_det(logdet.Exact()).forward_and_log_det(x)[1]

    x = tf.cast(example([2]), tf.float32)
    np.testing.assert_allclose(tf.function(exact)(x), exact(x), rtol=1e-5)


@pytest.mark.parametrize("make, message", [
    (lambda: flows.image_flow([28, 28]), r"`event_shape` must be \[H, W, C\]"),
    (lambda: flows.image_flow([30, 30, 1]), r"divisible by 4 .*event_shape=\(30, 30, 1\)"),
    (lambda: flows.image_flow([8, 8, 1], nblocks=(0,)), r"`nblocks` must be one or more positive"),
    (lambda: flows.image_flow([8, 8, 1], kernels=(3,)), r"`kernels` must be at least two"),
    (lambda: flows.image_flow([8, 8, 1], coeff=1.0), r"`coeff` must be in \(0, 1\)"),
    (lambda: flows.image_flow([8, 8, 1], logit_alpha=0.6), r"`alpha` must be in \(0, 0.5\)"),
    (lambda: flows.toy_flow(nblocks=0), r"`nblocks` must be at least 1"),
    (lambda: flows.toy_flow(dims=()), r"`dims` must be one or more"),
    (lambda: bijectors.Squeeze([3, 4, 1]), r"`event_shape` must be \[H, W, C\] with H and W mult"),
    (lambda: bijectors.ActNorm([]), r"`event_shape` must be one or more positive"),
    (lambda: bijectors.ActNorm([2], min_variance=-1), r"`min_variance` must not be negative"),
    (lambda: bijectors.Chain([]), r"`bijectors` must be a list of at least one"),
    (lambda: bijectors.Chain(bijectors.ActNorm([2])), r"`bijectors` must be a list of at least"),
    (lambda: bijectors.Chain([layers.ReLU(), bijectors.ActNorm([2])]), "`bijectors` must be an"),
    (lambda: bijectors.Chain([bijectors.ActNorm([2]), bijectors.ActNorm([3])]),
     r"in place 1 \(actnorm\) takes event_shape \(2,\). Received: \(3,\)"),
    (lambda: bijectors.FactorOut(bijectors.ActNorm([2]), [3]), r"even number of channels"),
    (lambda: bijectors.FactorOut(bijectors.ActNorm([3]), [4]), r"`inner` must be .*\(2,\).*3"),
    (lambda: bijectors.FactorOut(abs, [4]), r"`inner` must be an injective bijector .*abs"),
    (lambda: bijectors.Chain([bijectors.ActNorm([2]), tfb.Softsign()]), "`event_shape` must be"),
    (lambda: bijectors.Squeeze([4, 4, 1], factor=1), "`factor` must be at least 2"),
    (lambda: bijectors.InvertibleResidual(layers.InducedNormDense(3), [2]),
     r"`branch` must keep the shape"),
    (lambda: bijectors.InvertibleResidual(layers.ReLU(), [2]),
     r"`branch` must have a Lipschitz constant below 1. Received: 1.0"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
