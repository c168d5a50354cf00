"""`tf.custom_gradient`, which lets go of the graphs in which it was called.

In a graph TensorFlow registers a custom gradient under a name of its own, for as long as the
program runs: with it every tensor that its closure holds, and so every graph that was ever traced.
A search over many models, or a notebook of a long day, would run out of memory.
"""

import functools
import weakref

import tensorflow as tf
from tensorflow.python.framework import ops

__all__ = ["custom_gradient"]


def custom_gradient(function):
    """The same as `tf.custom_gradient`; what is registered goes with the graph that it belongs to.

    Args:
      function: of tensors; returns `(outputs, gradient)`.

    Returns:
      A function of tensors that returns the outputs.
    """
    of_tensorflow = tf.custom_gradient(function)

    @functools.wraps(function)
    def call(*tensors):
        outputs = of_tensorflow(*tensors)
        if not tf.executing_eagerly():
            _let_go(tf.nest.flatten(outputs)[0].op)
        return outputs

    return call


class _Gradient:
    """What is registered for one operation: graphs own it, the registry knows where it is."""

    def __init__(self, function):
        self.function = function


def _let_go(op):
    """Makes the graph of `op`, and those around it, the only owners of its gradient."""
    name = op.get_attr("_gradient_op_type").decode()
    registry = ops.gradient_registry._registry
    gradient = _Gradient(registry[name]["type"])
    known = weakref.ref(gradient)
    registry[name]["type"] = lambda op, *d: known().function(op, *d)
    weakref.finalize(gradient, registry.pop, name, None)
    graphs = [op.graph]
    while graphs[-1].building_function and graphs[-1].outer_graph.building_function:
        graphs.append(graphs[-1].outer_graph)
    for graph in graphs:
        graph.tfresflow_gradients = (*getattr(graph, "tfresflow_gradients", ()), gradient)
