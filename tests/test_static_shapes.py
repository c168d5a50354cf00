"""What is known of a shape before anything is computed: that of an output is that of its input."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import flows
from tests.registry import QUICK, REGISTRY, example, shared
from tfresflow import FlowModel, logdet, solvers

ESTIMATORS = {"default": logdet.LogDet(),
              "recompute": logdet.LogDet(memory=logdet.Recompute())}


def traced_shapes(flow, n, inverse):
    """Shapes of what a flow gives of a batch of n, and of the gradient of it, in a graph."""
    @tf.function(autograph=False)
    def everything(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = list(flow.forward_and_log_det(x, seed=0))
            if inverse:
                outputs.append(flow.inverse_alone(outputs[0]))
        return outputs, tape.gradient(outputs, x)

    spec = tf.TensorSpec([n, *flow.event_shape], tf.float64)
    structure = everything.get_concrete_function(spec).structured_outputs
    return [tuple(t.shape) for t in tf.nest.flatten(structure)]


@pytest.mark.fast(*(f"{name}-exact" for name in QUICK))
@pytest.mark.parametrize("name, estimator", [
    *((name, "exact") for name in REGISTRY), ("toy_flow", "default"), ("toy_flow", "recompute"),
    ("InvertibleResidual_conv", "default"), ("InvertibleResidual_conv", "recompute")])
def test_a_known_batch_stays_known(name, estimator):
    """That of a second size, too, for which all that is shared is traced with an unknown one."""
    flow, _ = shared(name, 1)
    if estimator != "exact":
        flow = flow.with_log_det(ESTIMATORS[estimator])
    inverse = estimator != "exact" or name in ("InvertibleResidual_dense", "FactorOut", "Squeeze")
    x, z = flow.event_shape, flow.latent_shape(flow.event_shape)
    for n in (2, 1):
        got = traced_shapes(flow, n, inverse)
        assert got == [(n, *z), (n,), *([(n, *x)] if inverse else []), (n, *x)]


def test_of_implicit_and_of_a_model():
    model = FlowModel(flows.toy_flow(nblocks=1, dims=(4,), seed=0))
    root = solvers.Implicit()

    @tf.function(autograph=False)
    def traced(x):
        results = [model.log_prob(x), *root(lambda h: 0.5 * tf.sin(h) + x, tf.zeros_like(x))]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = root(lambda h, x: 0.5 * tf.sin(h) + x, tf.zeros_like(x), [x]).value
        results.append(tape.gradient(y, x))
        assert [t.shape[0] for t in results] == [x.shape[0]] * len(results)
        return results[0]

    for n in (2, 1):
        traced.get_concrete_function(tf.TensorSpec([n, 2]))


@pytest.mark.slow
def test_hamiltonian_monte_carlo_through_a_flow():
    """NeuTra: the state of the loop keeps its shape, after the flow has seen other sizes."""
    flow = flows.toy_flow(nblocks=1, dims=(4,), actnorm=False, dtype="float64", seed=0)
    for n in (2, 3):
        flow.inverse_and_log_det(example([2], n))
    inner = tfp.mcmc.HamiltonianMonteCarlo(
        lambda x: -0.5 * tf.reduce_sum(x ** 2, -1), step_size=0.1, num_leapfrog_steps=2)
    kernel = tfp.mcmc.TransformedTransitionKernel(inner, tfp.bijectors.Invert(flow))
    draws = tf.function(lambda: tfp.mcmc.sample_chain(
        3, example([2], 1), kernel=kernel, trace_fn=None, seed=[0, 1]))()
    assert draws.shape == [3, 1, 2] and np.all(np.isfinite(draws))
