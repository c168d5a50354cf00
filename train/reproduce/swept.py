"""The gradient by a strategy of `tfresflow.autodiff`: as a function, its error, its time."""

import time

import numpy as np
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.functions import upkeep
from tfresflow.functions.branch import leaf_layers
from tfresflow.functions.steps import Rows, bind

__all__ = ["as_float64", "distance", "gaussian", "medians", "swept", "trainable"]


def trainable(flow):
    """The trainable `tf.Variable`s of a flow."""
    return [v.value for layer in flow.layers for v in layer.trainable_variables]


def as_float64(oracle, flow):
    """Gives a flow in float64 the weights of one in float32, norms and their vectors, too."""
    for wide, own in zip(_weights(oracle), _weights(flow), strict=True):
        wide.assign(tf.cast(own, wide.dtype))


def _weights(flow):
    return [w.value for layer in leaf_layers(flow.layers) for w in layer.weights]


def gaussian(z):
    """Mean of minus the log-density of a standard normal, but for a constant."""
    return tf.reduce_mean(tf.reduce_sum(z ** 2, axis=1)) / 2


def swept(flow, way, loss, weight=0.0):
    """A traced function `(x, *others, seed=0) -> (value, gradients by the trainable weights)`.

    Args:
      flow: a flow.
      way: a strategy.
      loss: `(z, *others) -> scalar`.
      weight: of the log-determinants' mean, which is added to the loss.
    """
    variables = trainable(flow)

    @tf.function(autograph=False)
    def gradient(x, *others, seed=0):
        seed, rows = seeds.as_seed(seed), tf.range(tf.shape(x)[0])

        def end(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(z, *others)
            return value, tape.gradient(value, z)

        with upkeep.kept():
            with tf.GradientTape() as tape:
                bound = bind(flow, seed, x.shape[0], x.dtype)
            each = tf.fill(tf.shape(x)[:1], weight / tf.cast(tf.shape(x)[0], x.dtype))
            found = way(bound.steps, x, Rows(rows, seed=seed), each, end)
        own = tape.gradient(bound.weights, variables, found.dweights, unconnected_gradients="zero")
        beside = tf.reduce_sum(each * found.log_det) if weight else 0.0
        return found.outputs + beside, own

    return gradient


def distance(got, want):
    """The norm of the difference of two lists of tensors, relative to that of the second."""
    got, want = (np.concatenate([np.ravel(t).astype(np.float64) for t in own])
                 for own in (got, want))
    return float(np.linalg.norm(got - want) / np.linalg.norm(want))


def medians(calls, repeats):
    """`{name: seconds}`: medians of `repeats` rounds, in each of which every call is made once.

    Args:
      calls: `{name: function}`; each is called once before, to be traced.
    """
    seconds = {name: [] for name in calls}
    for i in range(repeats + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            tf.nest.map_structure(lambda t: t.numpy(), call())
            if i:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(own)) for name, own in seconds.items()}
