"""The models of this project, and what a training step of them is."""

import math
import time

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from benchmarks.draw import measured
from benchmarks.workloads import Image
from bijectors import InvertibleResidual, flows
from tfresflow import FlowModel, layers, logdet, solvers
from tfresflow.functions.branch import leaf_layers
from tfresflow.losses import bits_per_dim
from tfresflow.training import optimizers

tfd = tfp.distributions

__all__ = ["Trainer", "build", "log_prob_seconds", "sampler", "weights"]


def build(workload, seed=0, solver=None):
    """The flow of a workload, all else as by default."""
    if isinstance(workload, Image):
        rule = logdet.Poisson(2.0, n_exact=2)
        return flows.image_flow(
            workload.event_shape, nblocks=workload.nblocks, idim=workload.idim,
            kernels=workload.kernels, n_fc_blocks=workload.n_fc_blocks, fc_idim=workload.fc_idim,
            coeff=workload.coeff, logit_alpha=workload.alpha, seed=seed,
            solver=solver,
            log_det=logdet.LogDet(_terms(workload, rule)))
    return flows.toy_flow(
        workload.event_shape, nblocks=workload.nblocks, dims=workload.dims,
        coeff=workload.coeff, power_iteration=layers.PowerIteration(num_steps=5), seed=seed,
        solver=solver,
        log_det=logdet.LogDet(_terms(workload, logdet.Geometric(0.5, n_exact=2))))


def weights(flow):
    """All arrays of a flow, layer by layer: what `benchmarks.peer.load_weights` takes."""
    return [w.numpy() for layer in leaf_layers(flow.layers) for w in layer.weights]


def _terms(workload, rule):
    return logdet.Truncated(workload.n_terms) if workload.n_terms else rule


class Trainer:
    """A whole training step: loss, gradient, clip, Adam, power iteration, as `fit` does it."""

    def __init__(self, workload, lr=1e-3):
        self.model = FlowModel(build(workload))
        self.model.compile(optimizers.Adam(lr, beta_2=0.99, global_clipnorm=1.0))
        self._initialized, self._score = False, None

    def step(self, x):
        """`x`: numpy `[N, H, W, C]` or `[N, D]`; returns the loss, nats."""
        if not self._initialized:
            self.model.initialize(x)
            self._initialized = True
        return float(self.model.train_on_batch(x)[0])

    def bits_per_dim(self, images):
        """Mean over `images`, with 20 exact terms."""
        self.model.eval_flow = self.model.flow.with_log_det(
            logdet.LogDet(logdet.Poisson(2.0, n_exact=20)))
        if self._score is None:
            self._score = tf.function(
                lambda x, seed: self.model.compute_nll(x, seed, self.model.eval_flow),
                autograph=False)
        nll = [self._score(tf.constant(images[i:i + 100]), tf.constant([0, i]))
               for i in range(0, len(images), 100)]
        return float(tf.reduce_mean(bits_per_dim(tf.concat(nll, 0), images[0].size)))


def sampler(workload, arrays, residual):
    """`z [N, D] -> (x, largest residual of any block)`.

    The solver's tolerance is for the 2-norm; a sixteenth of `residual` on average brings the
    largest entry under it.
    """
    flow = build(workload, solver=solvers.Anderson(
        rtol=0.0, atol=residual * math.sqrt(math.prod(workload.event_shape)) / 16))
    variables = [w for layer in leaf_layers(flow.layers) for w in layer.weights]
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    inverse = tf.function(flow.inverse_alone, autograph=False)
    return measured(lambda z: inverse(tf.constant(z)).numpy(),
                    lambda z: _largest_residual(flow, z))


def _largest_residual(flow, z):
    largest = 0.0
    for step in flow.bijectors:
        x = step.inverse_alone(z)
        if isinstance(step, InvertibleResidual):
            largest = max(largest, float(tf.reduce_max(tf.abs(z - x - step.branch(x)))))
        z = x
    return largest


def log_prob_seconds(workload, x, repeats):
    """Medians of `TransformedDistribution.log_prob` and of `forward_and_log_det`, traced."""
    flow, size = build(workload), math.prod(workload.event_shape)
    dist = tfd.TransformedDistribution(
        tfd.MultivariateNormalDiag(tf.zeros(size), tf.ones(size)), tfp.bijectors.Invert(flow))
    calls = {"distribution": lambda x: dist.log_prob(x, bijector_kwargs={"seed": 0}),
             "pair": lambda x: flow.forward_and_log_det(x, seed=0)}
    calls = {name: tf.function(call, autograph=False) for name, call in calls.items()}
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            began = time.monotonic()
            tf.nest.map_structure(lambda t: t.numpy(), call(tf.identity(x)))
            seconds[name].append(time.monotonic() - began)
    return {name: float(np.median(values[2:])) for name, values in seconds.items()}
