"""Memory by the statistics of TensorFlow's allocator."""

import tensorflow as tf

__all__ = ["peaks"]


def peaks(step, count=5):
    """Bytes that each of `count` calls takes at its peak above what is there before, past a first.

    Operations that wait for nothing run in any order: they differ by some tensors.
    """
    step()
    found = []
    for _ in range(count):
        tf.config.experimental.reset_memory_stats("CPU:0")
        before = tf.config.experimental.get_memory_info("CPU:0")["current"]
        step()
        found.append(tf.config.experimental.get_memory_info("CPU:0")["peak"] - before)
    return found
