"""Calls of functions with thousands of arguments.

TensorFlow looks at each argument of a call for microseconds, and a variable that a function uses
is an argument: of a step of a hundred small blocks, a tenth goes to nothing else. Few tensors of
all their handles, taken apart inside, cost next to nothing. So does one vector of all gradients.
"""

import itertools

import numpy as np
import tensorflow as tf

__all__ = ["pack", "pack_captures", "unpack"]


def pack_captures(function):
    """The same function, called with the handles of all variables that it uses as few tensors.

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
    handles = [t for t in captured if t.dtype == tf.resource]
    handles = [tf.stack(handles[i:i + 256]) for i in range(0, len(handles), 256)]

    @tf.function(autograph=False)
    def run(handles, args):
        each = itertools.chain(*map(tf.unstack, handles))
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


def pack(tensors, like):
    """Few vectors, of tensors with the shapes and dtypes of `like`.

    A thousand tensors take milliseconds to call a function with.
    """
    flat = tf.constant([-1])  # each use of a list would be an operation
    return [tf.concat([tensors[i] if like[i].shape.rank == 1 else tf.reshape(tensors[i], flat)
                       for i in places], axis=0) for places in _groups(like)]


def unpack(vectors, like):
    """What `pack` was given."""
    tensors, shapes = [None] * len(like), {}
    for vector, places in zip(vectors, _groups(like)):
        parts = tf.split(vector, [like[i].shape.num_elements() for i in places])
        for i, part in zip(places, parts):
            shape = tuple(like[i].shape)
            if len(shape) != 1 and shape not in shapes:
                shapes[shape] = tf.constant(shape, tf.int32)
            tensors[i] = part if len(shape) == 1 else tf.reshape(part, shapes[shape])
    return tensors


def _groups(tensors):
    """Places of the tensors of one vector: of one dtype, all of aligned sizes or none.

    Parts of aligned sizes are taken out of a vector without a copy. Large vectors are several, so
    that what is done to all entries is done on all cores.
    """
    kinds = {}
    for i, t in enumerate(tensors):
        kinds.setdefault((t.dtype, t.shape.num_elements() % 16 == 0), []).append(i)
    groups = []
    for places in kinds.values():
        sizes = [tensors[i].shape.num_elements() for i in places]
        each = max(2 ** 16, -(-sum(sizes) // 8))
        parts = {}
        for i, end in zip(places, itertools.accumulate(sizes)):
            parts.setdefault(max(end - 1, 0) // each, []).append(i)
        groups += parts.values()
    return groups
