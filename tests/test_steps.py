"""Steps of a flow: what their products cost, and that they undo each other."""

import dataclasses

import pytest
import tensorflow as tf

import bijectors
from tests.gradients import WAYS, assert_close, estimator, roughened
from tests.registry import branch, build, every_bijection, example
from tests.test_engine import _Layer
from tfresflow import logdet, solvers
from tfresflow.batches.seeds import as_seed
from tfresflow.functions.function import Function
from tfresflow.functions.steps import Rows


@every_bijection
def test_law_vijp_undoes_vjp(name):
    """Of the whole flow, from the same draws: z, dz, the log-determinant and all derivatives."""
    flow, x = build(name)
    if flow.layers:
        roughened(flow)
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        bound = flow.with_log_det(logdet.LogDet(logdet.Truncated(4))).bind(3, len(x), x.dtype)
    rows, d = Rows(tf.range(len(x))), tf.constant([0.3, -1.0, 2.0], tf.float64)
    z = bound.value(x, rows)
    dz = tf.cos(3 * z)
    dx, log_det, dweights = bound.vjp(x, rows, dz, d)
    *got, again = bound.vijp(x, rows, dx, d)
    assert_close(got, (z, dz, log_det), 1e-7)
    # By the variables, as a step may give at its end what another gave at its beginning.
    got, want = (tape.gradient(bound.weights, variables, found, unconnected_gradients="zero")
                 for found in (again, dweights))
    assert_close(got, want, 1e-7)


def test_an_adjoint_that_does_not_converge_is_an_error():
    flow = bijectors.InvertibleResidual(branch([3]), [3], estimator()["log_det"],
                                        adjoint=solvers.BiCGSTAB(max_steps=1))
    x = example([3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="The adjoint solve of a residual"):
        flow.bind(3, 3, x.dtype).vijp(x, Rows(tf.range(3)), x, tf.ones_like(x[:, 0]))


@pytest.mark.parametrize("n", [2, 9])
@pytest.mark.parametrize("name", ["inputs", "stored", "released"])
def test_products_of_a_step(n, name):
    """g once for all but its value; n products for the estimate, one for the gradient."""
    layer, x = _Layer(), example([3])
    layer.build(x.shape)
    step = bound(logdet.LogDet(logdet.Truncated(n)), layer, x)
    WAYS[name]([step], x, Rows(tf.range(3)), tf.ones_like(x[:, 0]), lambda z: ((), z))
    assert layer.counting.counts == {"g": 1, "vjp": n + 1}


def test_products_in_the_plane():
    """One with v, through which the gradient goes, and one across it; no more, whatever n."""
    counts = {"products": 0}

    @dataclasses.dataclass(frozen=True, eq=False)
    class Sine(Function):
        shareable = False

        def __call__(self, weights, x):
            return tf.sin(x) / 2

        def linearise_forward(self, weights, x):
            def jvp(t):
                counts["products"] += 1
                return t * tf.cos(x) / 2

            return self(weights, x), jvp

    layer, x = _Layer(), example([2])
    layer.counting = Sine()
    layer.build(x.shape)
    step = bound(logdet.LogDet(logdet.Truncated(20)), layer, x)
    step.vjp(x, Rows(tf.range(3)), x, tf.ones_like(x[:, 0]))
    assert counts["products"] == 2


def bound(log_det, layer, x):
    return log_det.bind(layer, as_seed(0), tf.TensorSpec(x.shape, x.dtype), None, None)
