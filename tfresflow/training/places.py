"""Where in the whole batch the rows of a replica are."""

import tensorflow as tf

__all__ = ["first_example"]


def first_example(x, even=False):
    """The place in the whole batch of the first example of this replica's share `x`, int64."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tf.constant(0, tf.int64)
    replicas, place, size = context.num_replicas_in_sync, _replica_place(context), tf.shape(x)[0]
    if even:
        return place * tf.cast(size, tf.int64)
    sizes = context.all_reduce("SUM", tf.one_hot(place, replicas, dtype=tf.int32) * size)
    before = tf.range(replicas, dtype=tf.int64) < place
    return tf.cast(tf.reduce_sum(tf.where(before, sizes, 0)), tf.int64)


def _replica_place(context):
    """The place of a replica's share in the whole batch, an int64 tensor.

    TensorFlow deals out the first share of each worker, then the second of each, and so on.
    """
    replicas, each = context.num_replicas_in_sync, len(context.strategy.extended.worker_devices)
    replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
    return replica % each * (replicas // each) + replica // each
