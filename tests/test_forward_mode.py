"""Forward mode: the Jacobian of back-propagation, or one clear error; never a tangent of zeros."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.registry import branch, build, example
from tfresflow import logdet, solvers

ways = pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])


def tangent(function, x, direction):
    with tf.autodiff.ForwardAccumulator(x, direction) as forward:
        y = function(x)
    return forward.jvp(y, unconnected_gradients="zero")


@pytest.mark.parametrize("name", ["ActNorm", "Logit", "toy_flow"])
def test_tangents_are_products_of_the_jacobian(name):
    flow, x = build(name, n=2)
    direction = example(x.shape[1:], 2, seed=9)
    got = tangent(lambda x: flow.forward_and_log_det(x), x, direction)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        results = flow.forward_and_log_det(x)
    for a, y in zip(got, results):
        jacobian = tape.jacobian(y, x, unconnected_gradients="zero")
        jacobian = tf.reshape(jacobian, [-1, tf.size(x)])
        want = tf.linalg.matvec(jacobian, tf.reshape(direction, [-1]))
        np.testing.assert_allclose(tf.reshape(a, [-1]), want, rtol=1e-9, atol=1e-10)


def through(what):
    block = bijectors.InvertibleResidual(branch([1]), [1], logdet.LogDet(logdet.Truncated(3)))
    return {"inverse": block.inverse_alone,
            "forward": lambda x: block.forward_and_log_det(x, seed=0)[1],
            "implicit": lambda x: solvers.Implicit()(lambda h: tf.cos(h / 2 + x), x).value}[what]


@ways
@pytest.mark.parametrize("what", ["implicit", "inverse", "forward"])
def test_what_has_no_tangent_says_so(what, wrap):
    function, x = through(what), example([1], 2)
    with pytest.raises((ValueError, LookupError), match="ForwardAccumulator` does not pass thr"):
        wrap(lambda: tangent(function, x, tf.ones_like(x)))()
