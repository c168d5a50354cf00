"""Flows on a lattice: what they commute with, to rounding, and the constants of their layers."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import ActNorm, InvertibleResidual, norm_report
from bijectors.flows import phi4_couplings, phi4_flow, u1_flow
from tests.registry import EXACT, example, moved
from tests.test_lattice_targets import transformed
from tests.test_layers import dense_operator
from tfresflow import FlowModel, layers, logdet, targets
from tfresflow.functions.branch import functionalize
from tfresflow.functions.torus import curl, plaquettes

tfd = tfp.distributions

FLOWS = {
    "phi4": lambda: phi4_flow(4, nblocks=2, idim=4, **EXACT),
    "phi4_tanh": lambda: phi4_flow((4, 6), nblocks=1, idim=4, act="tanh", preact=True,
                                   kernels=(3, 3), **EXACT),
    "u1": lambda: u1_flow(4, nblocks=2, idim=4, **EXACT),
    "u1_odd_torus": lambda: u1_flow((3, 5), nblocks=1, idim=4, act=layers.CLipSwish, **EXACT)}
U1 = ["u1", "u1_odd_torus"]
PHI4 = ["phi4", "phi4_tanh"]


def trained(name):
    """As if it were: weights elsewhere, norms up to date."""
    return moved(FLOWS[name]())


def assert_commutes(flow, x, there, back):
    """`back(f(there(x))) = f(x)`, both ways, and the log-determinant is invariant."""
    z, log_det = flow.forward_and_log_det(x)
    assert np.abs(z - x).max() > 0.01 and np.abs(log_det).min() > 1e-4
    got, same = flow.forward_and_log_det(there(x))
    np.testing.assert_allclose(back(got), z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(same, log_det, rtol=0, atol=1e-11)
    x, log_det = flow.inverse_and_log_det(z)
    got, same = flow.inverse_and_log_det(there(z))
    np.testing.assert_allclose(back(got), x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(same, log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", FLOWS)
def test_shifts(name):
    flow = trained(name)
    for shift in ((1, 0), (2, 3)):
        opposite = [-s for s in shift]
        assert_commutes(flow, example(flow.event_shape), lambda x: tf.roll(x, shift, (1, 2)),
                        lambda z: tf.roll(z, opposite, (1, 2)))


@pytest.mark.parametrize("name", PHI4)
def test_the_sign(name):
    flow = trained(name)
    assert_commutes(flow, example(flow.event_shape), tf.negative, tf.negative)


@pytest.mark.parametrize("name", U1)
def test_gauge_transformations_and_turns(name):
    flow = trained(name)
    x, space = 2 * example(flow.event_shape), flow.event_shape[:2]
    angles = 3 * example(space, seed=4)
    assert_commutes(flow, x, lambda x: transformed(x, angles), lambda z: transformed(z, -angles))
    turns = 2 * math.pi * tf.round(2 * example(flow.event_shape, seed=5))
    assert_commutes(flow, x, lambda x: x + turns, lambda z: z - turns)


def test_a_flow_with_biases_or_another_padding_does_not_commute():
    """The tests above can fail."""
    def block(**kwargs):
        net = layers.Branch([layers.InducedNormConv2D(4, 3, dtype="float64", **kwargs),
                             layers.Sin(dtype="float64"),
                             layers.InducedNormConv2D(1, 3, dtype="float64", **kwargs)])
        return moved(InvertibleResidual(net, [4, 4, 1], logdet.Exact()))

    x = example([4, 4, 1])
    assert_commutes(block(padding="circular", use_bias=False), x, tf.negative, tf.negative)
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_commutes(block(padding="circular"), x, tf.negative, tf.negative)
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_commutes(block(padding="same", use_bias=False), x,
                        lambda x: tf.roll(x, 1, 1), lambda z: tf.roll(z, -1, 1))


def test_couplings_commute_with_shifts_of_the_board():
    flow = moved(phi4_couplings(4, nblocks=2, idim=4, dtype="float64", seed=0))
    x = example([4, 4, 1])
    for shift in (1, 1), (2, 0):
        assert_commutes(flow, x, lambda x: tf.roll(x, shift, (1, 2)),
                        lambda z: tf.roll(z, [-s for s in shift], (1, 2)))
    with pytest.raises(AssertionError, match="Mismatched"):
        assert_commutes(flow, x, lambda x: tf.roll(x, 1, 1), lambda z: tf.roll(z, -1, 1))


# Constants --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_the_lipschitz_constant_is_below_what_is_said(name):
    """Of each branch: proven, and no Jacobian is steeper, anywhere that was tried."""
    flow = trained(name)
    report = norm_report(flow)
    assert report.certified
    for branch_name, g in flow.branches().items():
        bound = report.blocks[branch_name]
        convs = [layer for layer in g.layers if hasattr(layer, "coeff")]
        assert bound <= 0.98 ** len(convs) * (1 + 1e-8)
        function, weights = functionalize(g)
        x = 3 * example(flow.event_shape, 20)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(weights, x)
        size = math.prod(flow.event_shape)
        jacobian = tf.reshape(tape.batch_jacobian(y, x), [-1, size, size])
        assert 0.01 < np.linalg.svd(jacobian, compute_uv=False).max() <= bound


@pytest.mark.parametrize("size", [(4, 4), (3, 3), (5, 4), (2, 3)])
def test_plaquettes_and_back(size):
    """The norm of D by the SVD of its matrix; its adjoint; derivatives as a tape has them."""
    of_links = layers.Plaquettes(dtype="float64")
    back = layers.LinksOfPlaquettes(dtype="float64")
    x, h, u = (example(shape, 3, seed) for seed, shape in enumerate(
        [(*size, 2), (*size, 1), (*size, 2)]))
    y, links = of_links(x), back(h)
    count = math.prod(size)
    matrix = tf.reshape(plaquettes(tf.reshape(
        tf.eye(2 * count, dtype=tf.float64), [-1, *size, 2])), [2 * count, count])
    norm = np.linalg.svd(matrix, compute_uv=False)[0]
    np.testing.assert_allclose(of_links.lipschitz, norm, rtol=1e-13)
    assert math.isclose(norm ** 2, 8) == all(s % 2 == 0 for s in size)
    np.testing.assert_allclose(back.lipschitz * norm, 1, rtol=1e-13)
    np.testing.assert_allclose(
        np.linalg.svd(dense_operator(back, (*size, 1)), compute_uv=False)[0], 1 / norm, rtol=1e-13)
    np.testing.assert_allclose(
        tf.reduce_sum(plaquettes(u) * h[..., 0]), tf.reduce_sum(curl(h[..., 0]) * u), rtol=1e-13)
    for layer, x, y in (of_links, x, y), (back, h, links):
        t = example(x.shape[1:], 3, seed=7)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = layer.function([], x)
        want = tape.batch_jacobian(value, x)
        np.testing.assert_array_equal(value, y)
        _, vjp = layer.function.linearise([], x)
        np.testing.assert_allclose(
            vjp(u), np.einsum("nhwcijk,nhwc->nijk", want, u), rtol=1e-12, atol=1e-13)
        _, jvp = layer.function.linearise_forward([], x)
        np.testing.assert_allclose(
            jvp(t), np.einsum("nhwcijk,nijk->nhwc", want, t), rtol=1e-12, atol=1e-13)


# With bases and targets -------------------------------------------------------------------------


def test_the_uniform_base_of_angles():
    """TFP's: constant wherever z is, of no slope, and with samples."""
    base = tfd.Independent(tfd.VonMises(tf.zeros([4, 4, 2], tf.float64), np.float64(0)), 3)
    z = 10 * example([4, 4, 2])
    with tf.GradientTape() as tape:
        tape.watch(z)
        y = base.log_prob(z)
    np.testing.assert_allclose(y, -32 * math.log(2 * math.pi), rtol=1e-13)
    np.testing.assert_array_equal(tape.gradient(y, z), np.zeros_like(z))
    draws = base.sample(2000, seed=[0, 1]).numpy()
    assert np.abs(draws).max() <= math.pi
    np.testing.assert_allclose(draws.var(), math.pi ** 2 / 3, rtol=0.02)


def test_a_density_of_angles_is_normalised():
    """By importance sampling from the uniform density; and it is that of all gauges."""
    flow = trained("u1")
    base = tfd.Independent(tfd.VonMises(tf.zeros([4, 4, 2], tf.float64), np.float64(0)), 3)
    model = FlowModel(flow, base)
    x = base.sample(3000, seed=[0, 1])
    ratios = np.exp(model.log_prob(x) - base.log_prob(x))
    assert np.std(ratios) > 0.01
    assert abs(np.mean(ratios) - 1) < 4 * np.std(ratios) / math.sqrt(3000)
    same = transformed(x, 3 * example([4, 4], 3000, seed=4))
    np.testing.assert_allclose(model.log_prob(same[:50]), model.log_prob(x[:50]), atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phi4", "u1"])
def test_a_lattice_flow_is_trained_by_its_samples(name):
    """Maximum likelihood on exact samples: the divergence to the density of others falls."""
    if name == "phi4":
        target = targets.Phi4(4, m2=0.2, lam=0.0)
        x, base = target.sample(2000, seed=1), None
        flow = phi4_flow(4, nblocks=2, idim=8, seed=0)
    else:
        target = targets.U1(4, beta=1.0)
        base = tfd.Independent(tfd.VonMises(tf.zeros([4, 4, 2]), 0.0), 3)
        x = target.sample(2000, seed=1)
        flow = u1_flow(4, nblocks=2, idim=8, seed=0)
    model = FlowModel(flow, base, seed=0)
    model.initialize(x[:1000])
    model.compile(keras.optimizers.Adam(3e-3))
    truth = np.mean(target.log_prob(x[1000:])) - target.log_z
    before = truth - np.mean(model.log_prob(x[1000:]))
    model.fit(x[:1000], batch_size=100, epochs=5, verbose=0)
    after = truth - np.mean(model.log_prob(x[1000:]))
    assert before > 0.1 and after < 0.8 * before and norm_report(flow).certified


def test_a_scale_without_a_shift():
    scale, x = ActNorm([2, 3, 1], shift=False, dtype="float64"), 1 + 2 * example([2, 3, 1], 50)
    z = scale.initialize(x)
    np.testing.assert_allclose(np.mean(z ** 2), 1, rtol=1e-12)
    assert np.mean(z) > 0.1 and len(scale.trainable_variables) == 1
    np.testing.assert_array_equal(scale.forward(-x), -scale.forward(x))
    conditional = ActNorm([2, 3, 1], shift=False, context_shape=[2], dtype="float64")
    moved(conditional)
    x, context = example([2, 3, 1]), example([2])
    z, log_det = conditional.forward_and_log_det(x, context=context)
    back, minus = conditional.inverse_and_log_det(z, context=context)
    np.testing.assert_allclose(back, x, rtol=1e-12)
    np.testing.assert_allclose(minus, -log_det, rtol=1e-12)
    np.testing.assert_allclose(conditional.forward_and_log_det(-x, context=context)[0], -z)
    assert len(set(np.round(log_det, 8))) == 3


@pytest.mark.parametrize("make, message", [
    (lambda: phi4_flow(4, act="relu"), r"`act` must be odd, f\(-x\) = -f\(x\)"),
    (lambda: phi4_flow(4, act=layers.CLipSwish), "`act` must be odd"),
    (lambda: phi4_flow([4, 4, 2]), r"`size` must be L, \[H, W\] or \[H, W, 1\]"),
    (lambda: u1_flow([4, 4, 4, 2]), r"`size` must be L, \[H, W\] or \[H, W, 2\]"),
    (lambda: u1_flow(1), "`size` must be at least 2 a side"),
    (lambda: phi4_flow(4, kernels=3), "`kernels` must be at least two sizes"),
    (lambda: phi4_flow(2), r"`kernel_size` must not be larger than the torus, \(2, 2\)"),
    (lambda: phi4_couplings(2), r"`kernels` must not be larger than the torus, \(2, 2\)"),
    (lambda: layers.Plaquettes().build((None, 4, 4, 1)), "`input_shape` must have 2 on its last"),
    (lambda: layers.LinksOfPlaquettes().build((None, None, 4, 1)), "of a known height and width"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
