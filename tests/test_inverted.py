"""Flows the other way round: pairs, names, the data-dependent start, architectures."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.gradients import assert_close, by_tape, estimator, loss_of
from tests.registry import IMPLICIT, branch, example
from tests.test_flows import SMALL, steps
from tfresflow import autodiff, layers, logdet
from tfresflow.functions.steps import Rows


def chain():
    block = bijectors.InvertibleResidual(branch([3]), [3], logdet.Exact(), name="block")
    return bijectors.Chain([bijectors.ActNorm([3], dtype="float64"), block,
                            bijectors.ActNorm([3], dtype="float64")])


def test_twice_inverted_it_is_the_flow():
    flow, x = chain(), example([3])
    again = bijectors.Inverted(bijectors.Inverted(flow))
    for got, want in zip(again.forward_and_log_det(x), flow.forward_and_log_det(x)):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(again.inverse_alone(x), flow.inverse_alone(x), atol=1e-12)


def test_draws_are_those_of_the_flow():
    """From the same seed the log-determinant is that of the flow at the solution, negated."""
    block = bijectors.InvertibleResidual(branch([3]), [3], estimator()["log_det"])
    z, x = bijectors.Inverted(block), example([3])
    solution, log_det = z.forward_and_log_det(x, seed=3)
    np.testing.assert_allclose(log_det, -block.forward_and_log_det(solution, seed=3)[1],
                               rtol=1e-12)


INVERTED = {
    "plane": lambda: ([2], branch([2]), estimator()["log_det"]),
    "tabular": lambda: ([3], branch([3]), estimator()["log_det"]),
    "adaptive": lambda: ([3], branch([3]), estimator(rule=logdet.Adaptive())["log_det"]),
    "exact": lambda: ([3], branch([3]), logdet.Exact()),
}


@pytest.mark.fast("tabular")
@pytest.mark.parametrize("name", INVERTED)
def test_an_inverted_monotone_block_is_the_step_of_the_negated_branch(name):
    """With the gradient of a tape, in all strategies: those that go back from z among them."""
    size, g, log_det = INVERTED[name]()
    flow, x = bijectors.Inverted(bijectors.Monotone(g, size, log_det)), example(size)
    [step] = flow.bind(3, len(x), x.dtype).steps
    assert type(step).__name__ == "_Cayley"  # no solve but those of the block itself
    want = by_tape(flow, x)
    for way in (autodiff.Recomputed(), autodiff.Moonwalk(fallback=None), autodiff.Reversible()):
        got = autodiff.gradients(flow, loss_of, x, seed=3, autodiff=way)
        assert_close(got, want, 1e-8)
    for flow in (flow, flow.flow):
        step, rows, d = flow.bind(3, len(x), x.dtype), Rows(tf.range(len(x))), 1 + x[:, 0] ** 2
        dx, log_det, dweights = step.vjp(x, rows, tf.sin(x), d)
        z, dz, *others = step.vijp(x, rows, dx, d)
        assert_close([dz, *others], [tf.sin(x), log_det, dweights], 1e-8)
        assert_close([z, step.solve(z, rows)], [step.value(x, rows), x], 1e-8)


def test_names_are_in_the_order_in_which_x_meets_them():
    other = bijectors.InvertibleResidual(branch([3]), [3], name="other")
    flow = bijectors.Inverted(bijectors.Chain([other, *chain().bijectors]), name="all")
    assert list(flow.branches()) == ["3/other", "1/block"]
    assert list(flow.named_layers()) == ["3/other", "2/actnorm", "1/block", "0/actnorm"]
    assert list(flow.lipschitz_layers()) == ["3/other", "1/block"]
    assert bijectors.norm_report(flow).certified and flow.name == "all"
    assert bijectors.Inverted(other).name == "inverted_other"


@pytest.mark.parametrize("inner, latent", [
    (lambda: bijectors.Chain([chain(), bijectors.ActNorm([3], dtype="float64")]), [3]),
    (lambda: bijectors.FactorOut(bijectors.ActNorm([2, 1, 1], dtype="float64"), [2, 1, 2]), [4]),
    (lambda: bijectors.Inverted(bijectors.ActNorm([3], dtype="float64")), [3])])
def test_initialize_normalises_what_comes_out(inner, latent):
    """Each ActNorm is set for the data that reaches it, the last of all included."""
    flow = bijectors.Inverted(inner())
    x = 3 * example(latent, 200, seed=3) + 7
    z = flow.initialize(x)
    np.testing.assert_allclose(z, flow.forward(tf.identity(x)), atol=1e-9)
    # The half that is not factored out, by channels.
    part = tf.reshape(z[..., 0], [-1, 1]) if len(z.shape) > 2 else z
    np.testing.assert_allclose(np.mean(part, 0), 0, atol=1e-9)
    np.testing.assert_allclose(np.std(part, 0), 1, rtol=1e-9)


def test_initialize_of_an_implicit_flow():
    flow = flows.toy_flow(nblocks=4, dims=(6,), block=IMPLICIT, seed=0, dtype="float64")
    z = bijectors.Inverted(flow).initialize(3 * example([2], 200) + 7)
    first = flow.bijectors[-1]
    assert isinstance(first, bijectors.InvertibleResidual)
    before = z + first.branch(z)  # what the ActNorm made, that comes last in this direction but one
    np.testing.assert_allclose(np.mean(before, 0), 0, atol=1e-9)
    np.testing.assert_allclose(np.std(before, 0), 1, rtol=1e-9)


@pytest.mark.parametrize("flow", [tfp.bijectors.Softplus(), layers.ReLU(), None])
def test_only_flows_are_inverted(flow):
    with pytest.raises(ValueError, match="`flow` must be a `Flow` of bijectors"):
        bijectors.Inverted(flow)


@pytest.mark.fast("toy")
@pytest.mark.parametrize("make", [
    lambda block: flows.toy_flow(nblocks=4, dims=(4,), actnorm=False, block=block),
    lambda block: flows.tabular_flow([3], nblocks=4, dims=(4,), actnorm=False,
                                     block=block).bijectors[0],
    lambda block: flows.image_flow([4, 4, 1], **{**SMALL, "actnorm": False}, block=block)],
    ids=["toy", "tabular", "image"])
def test_blocks_of_an_architecture_are_taken_in_turns(make):
    def kinds(block):
        return [type(b).__name__ for b in steps(make(block)) if b.branches()
                and not isinstance(b, (bijectors.Chain, bijectors.FactorOut))]

    count = len(kinds(bijectors.InvertibleResidual))
    assert kinds(bijectors.Monotone) == ["Monotone"] * count
    assert kinds(IMPLICIT) == (["InvertibleResidual", "Inverted"] * count)[:count]


@pytest.mark.parametrize("block", [None, [], "monotone", [bijectors.Monotone, 3]])
def test_blocks_must_be_classes(block):
    with pytest.raises(ValueError, match="`block` must be a class of blocks"):
        flows.toy_flow(nblocks=1, dims=4, block=block)
