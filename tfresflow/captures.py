"""Calls of functions that use thousands of variables.

TensorFlow looks at each argument of a call for microseconds, and a variable that a function uses
is an argument: of a step of a hundred small blocks, a tenth goes to nothing else. One tensor of
all their handles, taken apart inside, costs next to nothing.
"""

import numpy as np
import tensorflow as tf

__all__ = ["pack_captures"]


def pack_captures(function):
    """The same function, called with the handles of all variables that it uses as one tensor.

    Only where they are on one CPU: elsewhere TensorFlow could not tell which device a handle that
    came out of the tensor belongs to, and the function is called as it is.

    Args:
      function: a `tf.function`, of tensors, arrays and iterators.
    """
    calls = {}

    def call(*args):
        if tf.config.functions_run_eagerly():
            return function(*args)
        concrete = function.get_concrete_function(*args)
        if concrete not in calls:
            calls[concrete] = _packed(concrete) if _is_on_one_cpu(concrete) else function
        return calls[concrete](*args)

    return call


def _is_on_one_cpu(concrete):
    devices = {t.device for t in concrete.captured_inputs if t.dtype == tf.resource}
    return len(devices) == 1 and "CPU" in devices.pop()


def _packed(concrete):
    captured = concrete.captured_inputs
    handles = tf.stack([t for t in captured if t.dtype == tf.resource])

    @tf.function(autograph=False)
    def run(handles, args):
        each = iter(tf.unstack(handles))
        used = [next(each) if t.dtype == tf.resource else t for t in captured]
        return tf.raw_ops.StatefulPartitionedCall(
            args=[*args, *used], Tout=[t.dtype for t in concrete.outputs], f=concrete)

    structure = concrete.structured_outputs
    leaves = tf.nest.flatten(structure, expand_composites=True)

    def call(*args):
        given = [tf.convert_to_tensor(x) for x in tf.nest.flatten(args, expand_composites=True)
                 if tf.is_tensor(x) or isinstance(x, np.ndarray)]
        results = iter(run(handles, given))
        return tf.nest.pack_sequence_as(
            structure, [next(results) if tf.is_tensor(leaf) else leaf for leaf in leaves],
            expand_composites=True)

    return call
