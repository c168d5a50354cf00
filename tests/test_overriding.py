"""What a subclass says anew, of a pair, an estimator or a loss, is obeyed in training."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.gradients import RULE, OfATape, assert_equal, by_tape, estimator, loss_of, plane
from tests.registry import branch, example
from tfresflow import FlowModel, autodiff, logdet
from tfresflow.batches.seeds import Part, as_seed


def sums(model, x):
    return model._sums(x, tf.ones([len(x)], tf.float64), Part(as_seed(4)))


def test_an_overridden_pair_is_obeyed():
    """Of a bijector in a chain: in training as in evaluation."""
    class Twice(bijectors.InvertibleResidual):
        def forward_and_log_det(self, x, seed=None):
            z, log_det = super().forward_and_log_det(x, seed)
            return 2 * z, log_det + 2 * np.log(2.0)

    x = example([2], 6)
    block = Twice(branch([2]), [2], estimator()["log_det"])
    flow = bijectors.Chain([block, bijectors.ActNorm([2], dtype="float64")])
    assert_equal(autodiff.gradients(flow, loss_of, x, seed=3), by_tape(flow, x))
    assert_equal(sums(FlowModel(flow), x), sums(OfATape(flow), x))


def test_an_overridden_pair_and_its_steps_are_obeyed():
    """Who says both is taken at his word; so is one whose pair is that of a mixin."""
    class Mixin:
        def forward_and_log_det(self, x, seed=None):
            z, log_det = super().forward_and_log_det(x, seed)
            return 3 * z, log_det + 3 * np.log(3.0)

    class Tripled(Mixin, bijectors.InvertibleResidual):
        pass

    class Both(bijectors.ActNorm):
        def forward_and_log_det(self, x, seed=None):
            raise AssertionError("its steps are said, too")

        def bind(self, seed=None, size=None, dtype=None):
            return bijectors.ActNorm([3], dtype="float64").bind(seed)

    x = example([3], 6)
    flow = Tripled(branch([3]), [3], estimator()["log_det"])
    assert_equal(autodiff.gradients(flow, loss_of, x, seed=3), by_tape(flow, x))
    losses, _ = sums(FlowModel(Both([3], dtype="float64")), x)
    np.testing.assert_allclose(losses, 0.5 * np.sum(x ** 2 + np.log(2 * np.pi), 1), rtol=1e-12)


@pytest.mark.parametrize("kind", ["class", "function", "gradient"])
def test_an_overridden_estimator_is_obeyed(kind):
    class Doubled(logdet.LogDet):
        def __call__(self, g, x, seed=None):
            y, log_det = super().__call__(g, x, seed)
            return y, 2 * log_det

    class Tripled(logdet.Neumann):
        def targets(self, jacobian, v, c, w):
            def scaled(scale):
                tensors, cotangents = once(scale)
                return tensors, [3 * d for d in cotangents]

            once = super().targets(jacobian, v, c, w)
            return scaled

    def double(g, x, seed=None):
        y, log_det = logdet.Exact()(g, x)
        return y, 2 * log_det

    log_det = {"class": Doubled(RULE, memory=logdet.Tape()), "function": double,
               "gradient": logdet.LogDet(RULE, Tripled(), logdet.Tape())}[kind]
    flow, x = bijectors.InvertibleResidual(branch([2]), [2], log_det), example([2], 6)
    want = by_tape(flow, x)
    assert_equal(autodiff.gradients(flow, loss_of, x, seed=3), want)
    plain = by_tape(flow.with_log_det(logdet.LogDet(RULE)), x)
    assert np.abs(want[2] - plain[2]).max() > 1e-3


def test_an_overridden_loss_is_obeyed():
    class Tempered(FlowModel):
        def compute_nll(self, x, seed, flow=None):
            return 0.5 * super().compute_nll(x, seed, flow)

    class Squared(FlowModel):
        def example_losses(self, x, seed):
            return super().example_losses(x, seed) ** 2

    x, flow = example([2], 6), plane()
    whole, half, squared = (sums(kind(flow), x) for kind in (FlowModel, Tempered, Squared))
    assert_equal(half, tf.nest.map_structure(lambda t: t / 2, whole))
    assert_equal(squared[0], whole[0] ** 2)
    model = OfATape(flow)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(model.compute_nll(x, Part(as_seed(4))) ** 2)
    assert_equal(squared[1], tape.gradient(total, model.trainable_values(),
                                           unconnected_gradients="zero"))


def test_duck_typed_flows_are_trained():
    """By their pair and their layers."""
    inner = plane(dims=(5,))

    class Duck:
        layers = inner.layers
        event_shape, latent_shape = inner.event_shape, staticmethod(inner.latent_shape)
        forward_and_log_det = staticmethod(inner.forward_and_log_det)
        inverse_alone = staticmethod(inner.inverse_alone)

    x = example([2], 6)
    assert_equal(sums(FlowModel(Duck()), x), sums(FlowModel(inner), x))


@pytest.mark.parametrize("autodiff", ["stored", 3])
def test_autodiff_must_be_a_strategy(autodiff):
    with pytest.raises(ValueError, match="`autodiff` must be `Recomputed"):
        FlowModel(plane(dims=(5,)), autodiff=autodiff)


def test_a_variable_of_the_flow_that_the_base_reads_too():
    """Its gradient is the sum of both."""
    flow = bijectors.ActNorm([2], dtype="float64")

    class Base:
        trainable_variables = [flow.layers[0].shift.value]
        log_prob = staticmethod(lambda z: -tf.reduce_sum(
            (z - tf.convert_to_tensor(flow.layers[0].shift)) ** 4, axis=1))
        sample = staticmethod(lambda n, seed: tf.zeros([n, 2], tf.float64))

    x = example([2], 6)
    assert_equal(sums(FlowModel(flow, Base()), x), sums(OfATape(flow, Base()), x))
