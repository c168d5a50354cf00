"""AutoGraph rewrites nothing of this library: what calls it is traced many times faster."""

import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api

import bijectors
from tests.registry import branch, every_flow, example, shared
from tests.test_logdet import built_branch
from tfresflow import FlowModel, autodiff, logdet, solvers


@pytest.fixture
def rewritten(monkeypatch):
    """Names of what AutoGraph rewrites, but for the few lines around what it is to leave alone."""
    names, convert = [], api._convert_actual

    def recorded(entity, context):
        if not api.is_autograph_artifact(entity):
            names.append(f"{entity.__module__}.{entity.__qualname__}")
        return convert(entity, context)

    monkeypatch.setattr(api, "_convert_actual", recorded)
    return names


def check(rewritten, function, *args):
    """The function is, and what it calls is not."""
    tf.function(lambda *args: function(*args)).get_concrete_function(*args)
    assert rewritten and not [name for name in rewritten if not name.startswith(__name__)]


@every_flow
def test_law_of_flows(name, rewritten):
    flow, x = shared(name, n=2)

    def everything(x):
        z, log_det = flow.forward_and_log_det(x)
        return z, log_det, flow.forward(x), flow.inverse_and_log_det(z), flow.inverse_alone(z)

    check(rewritten, everything, x)


@pytest.mark.parametrize("estimator", [
    logdet.LogDet(), logdet.LogDet(logdet.Truncated(3), memory=logdet.Tape()), logdet.Exact()],
    ids=["default", "tape", "exact"])
def test_estimators(estimator, rewritten):
    net, x = built_branch([3], hidden=4), example([3], 2)
    check(rewritten, lambda x: estimator(net, x, 3), x)


@pytest.mark.parametrize("solver", [
    solvers.Picard(), solvers.Anderson(), solvers.Broyden(), solvers.Implicit(),
    solvers.Truncated(3), solvers.Unrolled(3)], ids=lambda solver: type(solver).__name__)
def test_fixed_points(solver, rewritten):
    check(rewritten, lambda x: solver(lambda h: tf.cos(h) / 2, x).value, example([2], 2))


@pytest.mark.parametrize("solver", [
    solvers.Neumann(3), solvers.FixedPoint(), solvers.CG(), solvers.BiCGSTAB(),
    solvers.Normal()], ids=lambda solver: type(solver).__name__)
def test_linear_systems(solver, rewritten):
    check(rewritten, lambda b: solver(lambda z: z / 2, b, lambda z: z / 2).value, example([2], 2))


def test_models_and_gradients(rewritten):
    flow = bijectors.InvertibleResidual(branch([2]), [2])
    model, x = FlowModel(flow), example([2], 2)
    check(rewritten, lambda x: (model.log_prob(x), model.sample(2, 0), model(x),
                                autodiff.gradients(flow, lambda z, log_det: log_det, x)[0]), x)
