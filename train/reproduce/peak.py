"""Memory by the statistics of TensorFlow's allocator."""

import tensorflow as tf

from train.errors import UserError

__all__ = ["has_statistics", "peak"]


def has_statistics():
    """Whether the allocator counts at all: on a CPU, that of oneDNN does."""
    try:
        tf.config.experimental.get_memory_info("CPU:0")
    except ValueError:
        return False
    return True


def peak(step):
    """Bytes that a call of `step` takes at its peak, above what is there before.

    Raises:
      UserError: the allocator keeps no statistics.
    """
    if not has_statistics():
        raise UserError("peak memory can only be measured with oneDNN, whose allocator counts: "
                        "set TF_ENABLE_ONEDNN_OPTS=1 in the environment")
    tf.config.experimental.reset_memory_stats("CPU:0")
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    step()
    return tf.config.experimental.get_memory_info("CPU:0")["peak"] - before
