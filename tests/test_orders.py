"""Orders of norms: learned ones, chains of them, and what a flow reports of its norms."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import bijectors
from bijectors import flows, norm_report
from tfresflow import FlowModel, layers, logdet
from tfresflow.training import optimizers

INF = math.inf


def learned_flow(seed=0, **kwargs):
    return flows.toy_flow(nblocks=2, dims=(16, 16), coeff=0.9, seed=seed,
                          orders=[layers.LearnedOrder(1.5, 2.5)] * 3, **kwargs)


@pytest.mark.slow
def test_learned_orders_move_and_the_flow_stays_certified(tmp_path):
    flow = learned_flow()
    model = FlowModel(flow, eval_log_det=logdet.Exact())
    model.compile(optimizers.Adam(2e-2, global_clipnorm=1.0))
    x = tf.random.stateless_normal([256, 2], [0, 0])
    x = tf.concat([x[:128] * 0.3 + 2, x[128:] * 0.3 - 2], 0)
    losses = []
    for _ in range(2):
        losses += model.fit(x, batch_size=64, epochs=16, verbose=0).history["nll"]
        report = norm_report(flow)
        assert report.certified and report.largest <= 0.9 * (1 + 1e-2), str(report)
    orders = [row.codomain for row in report.layers]
    assert max(abs(order - 2) for order in orders) > 0.1 and all(1.5 < o < 2.5 for o in orders)
    assert losses[-1] < losses[7] - 0.1
    for own in flow.lipschitz_layers().values():
        ends = [layer.codomain_order for layer in own]
        assert [layer.domain_order for layer in own] == [ends[-1], *ends[:-1]]
        assert len({end.source for end in ends}) == 3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.log_prob(x, seed=1), model.log_prob(x, seed=1))
    assert str(norm_report(loaded.flow)) == str(report)


@pytest.mark.slow
def test_the_gradient_of_an_order_is_that_of_the_norm():
    """Against the difference of norms that power iteration finds afresh."""
    branch = layers.Branch([layers.InducedNormDense(7, 0.9, codomain=layers.LearnedOrder(),
                                                    dtype="float64", kernel_initializer=(
                                                        keras.initializers.RandomNormal(seed=1))),
                            layers.InducedNormDense(3, 0.9, codomain=2, dtype="float64")])
    branch.build((None, 3))
    first, second = branch.layers
    raw = first.raw_codomain
    for layer in (first, second):
        layer.update_norm(layers.PowerIteration(2000))
    with tf.GradientTape() as tape:
        loss = first.order_loss() + second.order_loss()
    got = float(tape.gradient(loss, raw.value))

    def norms(value):
        raw.assign(value)
        for layer in (first, second):
            layer.update_norm(layers.PowerIteration(2000))
        return sum(float(layer.order_loss()) for layer in (first, second))

    expected = (norms(1e-4) - norms(-1e-4)) / 2e-4
    assert abs(expected) > 1e-3
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_orders_are_chained_by_construction():
    branch = layers.Branch([layers.InducedNormDense(4, codomain=1), layers.LipSwish(),
                            layers.InducedNormDense(5, codomain=layers.LearnedOrder()),
                            layers.InducedNormDense(3, codomain=None)])
    with pytest.raises(ValueError, match="a learned order may not be next to"):
        branch.build((None, 3))
    branch = layers.Branch([layers.InducedNormDense(4, codomain=INF), layers.LipSwish(),
                            layers.InducedNormDense(5, codomain=None),
                            layers.InducedNormDense(3, codomain=1)])
    branch.build((None, 3))
    linear = [layer for layer in branch.layers if hasattr(layer, "kernel")]
    assert [(layer.domain_order.fixed, layer.codomain_order.fixed) for layer in linear] == [
        (1, INF), (INF, INF), (INF, 1)]
    bijectors.InvertibleResidual(branch, [3])


@pytest.mark.parametrize("make, message", [
    (lambda: bijectors.InvertibleResidual(keras.Sequential([
        layers.InducedNormDense(4, codomain=3), layers.InducedNormDense(3)]), [3]),
     "`branch` must end each layer in the norm that the next one begins with"),
    (lambda: layers.Branch([layers.InducedNormDense(4, codomain=3),
                            layers.InducedNormDense(3, domain=2)]).build((None, 3)),
     "`domain` must be the codomain of the layer before .* here 3"),
    (lambda: layers.InducedNormDense(3, codomain=0.5),
     r"`codomain` must be a number in \[1, inf\]"),
    (lambda: layers.InducedNormDense(3, domain="2"), r"`domain` must be a number in \[1, inf\]"),
    (lambda: layers.LearnedOrder(1.0, 2.5), r"`low` and `high` must be in \(1, inf\)"),
    (lambda: layers.LearnedOrder(2.2, 2.5), "`initial` must be between low and high"),
    (lambda: bijectors.InvertibleResidual(
        layers.InducedNormDense(3, domain=1, codomain=INF), [3]), "`branch` must end each layer"),
    (lambda: bijectors.InvertibleResidual(keras.Sequential([
        layers.Branch([layers.InducedNormDense(3, codomain=1)]),
        layers.Branch([layers.InducedNormDense(3, codomain=INF)])]), [3]),
     "`branch` must end each layer"),
    (lambda: layers.Branch([layers.Branch([layers.InducedNormDense(3)])]).build((None, 3)),
     "`layers` of a Branch must not be keras.Sequentials"),
    (lambda: bijectors.InvertibleResidual(keras.Sequential([
        layers.InducedNormDense(3, domain=1.5, codomain=1.5), layers.CLipSwish(),
        layers.InducedNormDense(3, domain=1.5, codomain=1.5)]), [3]),
     "`branch` must end each layer .* c_lip_swish"),
    (lambda: layers.LipschitzConcatenation(layers.Branch(
        [layers.InducedNormDense(4, codomain=INF)])).build((None, 3)), "`branch` must end"),
    (lambda: layers.Branch([layers.InducedNormDense(3, codomain=1), layers.InducedNormDense(
        3, codomain=2)]).build((None, 4, 3)), "`domain` must be at most `codomain` for inputs"),
    (lambda: layers.InducedNormDense(3, activation="swish"), "`activation` must be one of celu"),
    (lambda: layers.InducedNormDense(3, activation=layers.LipSwish()), "`activation` must be one"),
    (lambda: flows.toy_flow(dims=(8,), orders=[2, 2, 3]), "`orders` must be one for each linear"),
    (lambda: flows.toy_flow(dims=(8,), orders=3, dense_net=flows.DenseNet(1, 4)),
     "`orders` must be 2 in a DenseNet"),
])
def test_what_would_be_no_contraction_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_report_of_a_norm_that_is_too_large():
    """An estimate that power iteration has lost is found out."""
    flow = flows.toy_flow(nblocks=1, dims=(8,), seed=0)
    assert norm_report(flow).certified
    first = flow.lipschitz_layers()["0/dense0"][0]
    first.kernel.assign(5 * np.eye(2, 8) * [[1], [0.2]])
    first.v.assign([[0, 1]])  # the lesser singular vectors
    first.u.assign(np.eye(1, 8, 1))
    report = norm_report(flow)
    assert not report.certified and "invertible: not certified" in str(report)
    assert report.layers[0].measured > 1 and report.blocks["0/dense0"] >= (
        report.layers[0].measured * report.layers[1].measured * (1 - 1e-6))


def test_a_layer_that_says_no_constant_certifies_nothing():
    loud = keras.layers.Dense(3, kernel_initializer="ones", name="loud")
    with pytest.warns(UserWarning, match=r"taken for contractions.*\['loud'\]"):
        flow = bijectors.InvertibleResidual(keras.Sequential([
            layers.InducedNormDense(3), loud, layers.InducedNormDense(3)]), [3])
    assert not norm_report(flow).certified
    assert norm_report(flows.toy_flow(nblocks=1, dims=(4,))).certified
    assert norm_report(bijectors.ActNorm([3])).verdict() == "certified (no residual blocks)"


def test_steep_activation_warns():
    """The slope of GELU is 1.13."""
    g = keras.Sequential([layers.InducedNormDense(4), keras.layers.Activation("gelu"),
                          keras.layers.Activation("tanh"), layers.InducedNormDense(2)])
    g.layers[1].name = "steep"
    with pytest.warns(UserWarning, match=r"taken for contractions.*\['steep'\]"):
        bijectors.InvertibleResidual(g, [2])
