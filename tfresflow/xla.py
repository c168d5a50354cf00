"""Where XLA compiles what is being traced, and what it needs there to give the same numbers."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

__all__ = ["is_there"]


def is_there():
    """Whether the function that is being traced, or one around it, has `jit_compile=True`."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
