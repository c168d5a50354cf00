"""Flows, strategies and a loss for the tests of gradients, and what a tape finds for them."""

import functools

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import EXACT, branch, example, image
from tfresflow import FlowModel, autodiff, layers, logdet
from tfresflow.functions import upkeep
from tfresflow.functions.branch import norm_layers, update_norms
from tfresflow.functions.sweep import Sweep

RULE = logdet.Truncated(11)  # more than a round of the recurrence


class OnlyInputs(Sweep):
    """Recomputes blocks that are so small that `Recomputed` would keep them, too."""

    def __init__(self, chunk_bytes=None):
        self._chunk_bytes = chunk_bytes

    def forward(self, step, x, rows, dlog_det):
        rows = rows._replace(chunk_bytes=self._chunk_bytes)
        return step.value(x, rows), functools.partial(step.vjp, x, rows, dlog_det=dlog_det)


WAYS = {"recomputed": autodiff.Recomputed(), "stored": autodiff.Stored(),
        "released": autodiff.Released(), "inputs": OnlyInputs(), "chunks": OnlyInputs(150)}
# Those that go from x, or from z, to all others: by solves, or by more evaluations.
OTHERS = {"checkpointed": autodiff.Checkpointed(), "checkpointed_2": autodiff.Checkpointed(2),
          "memory_poor": autodiff.MemoryPoor(), "reversible": autodiff.Reversible(),
          "moonwalk": autodiff.Moonwalk(fallback=None),
          "moonwalk_reversible": autodiff.Moonwalk(autodiff.Reversible(), fallback=None)}
FORWARD = {"forward": autodiff.ForwardMode(),
           "moonwalk_pure": autodiff.Moonwalk(autodiff.ForwardMode(), fallback=None)}


def estimator(rule=RULE, **kwargs):
    return {**EXACT, "log_det": logdet.LogDet(rule, memory=logdet.Tape(), **kwargs)}


def plane(dims=(9, 8), **kwargs):
    return flows.toy_flow(nblocks=2, dims=dims, **estimator(**kwargs))


def deep(depth, width=16, **kwargs):
    return flows.toy_flow([8], nblocks=depth, dims=(width,), coeff=0.98, seed=0, actnorm=False,
                          log_det=logdet.LogDet(logdet.Truncated(2)), **kwargs)


def chain_with_tfp():
    block = bijectors.InvertibleResidual(branch([2, 2, 2]), [2, 2, 2], estimator()["log_det"])
    return bijectors.Chain([bijectors.Flatten([2, 2, 2]), tfp.bijectors.Softsign(), block])


FLOWS = {
    "plane": plane,
    "plane_random": lambda: plane(rule=logdet.Geometric(0.3)),
    "plane_normal": lambda: plane(probe=logdet.normal),
    "plane_adaptive": lambda: plane(rule=logdet.Adaptive()),
    "plane_wide": lambda: plane(dims=(400, 1)),
    "plane_two_probes": lambda: plane(num_probes=2),
    "plane_preact": lambda: flows.toy_flow(nblocks=1, dims=(6,), preact=True, **estimator()),
    "plane_max_min": lambda: flows.toy_flow(nblocks=1, dims=(6,), act=layers.MaxMin,
                                            **estimator()),
    "plane_dense_net": lambda: flows.toy_flow(nblocks=1, dense_net=flows.DenseNet(2, 3),
                                              act=layers.CLipSwish, **estimator()),
    "plane_series": lambda: plane(gradient=logdet.Series()),
    "exact": lambda: flows.toy_flow(nblocks=1, dims=(6,), **EXACT),
    "line": lambda: flows.toy_flow([1], nblocks=2, dims=(9,), **estimator()),
    "tabular": lambda: flows.tabular_flow([5], nblocks=2, dims=(9,), **estimator(num_probes=2)),
    "tabular_series": lambda: flows.tabular_flow([3], nblocks=1, dims=(9,),
                                                 **estimator(gradient=logdet.Series())),
    "tabular_adaptive": lambda: flows.tabular_flow(
        [3], nblocks=1, dims=(9,), **estimator(rule=logdet.Adaptive())),
    "tabular_bracket": lambda: flows.tabular_flow(
        [3], nblocks=1, dims=(9,), **estimator(rule=logdet.Bracket(1e-9))),
    "image": lambda: image(**estimator()),
    "image_factor_out": lambda: image(factor_out=True, **estimator()),
    "chain_with_tfp": chain_with_tfp,
}


# Tried in all ways, and traced.
MAIN = ("plane", "tabular", "tabular_series", "image_factor_out", "chain_with_tfp")


def roughened(flow):
    """With norms at their bound, and scales that are not one."""
    for layer in flow.layers:
        for i, weight in enumerate(layer.trainable_variables):
            weight.assign(weight + 0.3 * np.random.RandomState(i).randn(*weight.shape))
    update_norms(norm_layers(flow.layers))
    return flow


def loss_of(z, log_det):
    """Of unequal examples, and not linear in the log-determinant."""
    b = tf.cast(tf.linspace(-1.0, 2.0, tf.shape(z)[0]), z.dtype)
    return 0.5 * tf.reduce_sum(z ** 2) + tf.reduce_sum(b * log_det + tf.sin(log_det))


def by_tape(flow, x):
    """`(value, dvariables, dx)` by a tape around the pair."""
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss_of(*flow.forward_and_log_det(x, seed=3))
    *dvariables, dx = map(tf.convert_to_tensor, tape.gradient(  # that of an embedding is sparse
        value, [*variables, x], unconnected_gradients="zero"))
    return value, dvariables, dx


def batch(flow, n):
    x = example(flow.event_shape, n)
    return tf.sigmoid(x) if len(flow.event_shape) > 1 else x


def rough(name):
    """The same whenever it is made."""
    keras.utils.set_random_seed(0)
    return roughened(FLOWS[name]())


def traced(all_ways, x):
    """As `fit` traces them: norms are those of the weights, and no graph looks whether they are."""
    with upkeep.kept():
        return tf.function(all_ways, autograph=False)(x)


def assert_equal(got, want):
    assert_close(got, want, 1e-10)


def assert_close(got, want, rtol):
    for one, other in zip(tf.nest.flatten(got), tf.nest.flatten(want), strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=rtol, atol=0.1 * rtol * max(scale, 1e-3))


class OfATape(FlowModel):
    """Whose loss is its own: a tape goes around it."""

    def example_losses(self, x, seed):
        return super().example_losses(x, seed)
