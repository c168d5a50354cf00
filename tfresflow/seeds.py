"""Stateless seeds: one number in, the same randomness out, eager or traced."""

import tensorflow as tf

__all__ = ["as_seed", "fold_in"]


def as_seed(seed=None):
    """`seed` as the `[2]` integer tensor that TensorFlow's stateless ops take.

    Args:
      seed: None (fresh randomness from the global `tf.random.Generator`), a Python
        integer, or an integer tensor of shape `[2]`.

    Returns:
      An int32 or int64 tensor of shape `[2]`.

    Raises:
      ValueError: if `seed` has another shape or is not of integers.
    """
    if seed is None:
        return tf.random.get_global_generator().make_seeds(1)[:, 0]
    if isinstance(seed, int):
        return tf.constant([seed >> 31 & 0x7FFFFFFF, seed & 0x7FFFFFFF], tf.int32)
    seed = tf.convert_to_tensor(seed)
    if not seed.dtype.is_integer or seed.shape.rank not in (0, 1):
        raise ValueError("`seed` must be None, an integer or a [2] tensor of integers. "
                         f"Received: seed={seed}")
    if seed.shape.rank == 0:
        return tf.stack([tf.zeros_like(seed), seed])
    if seed.shape[0] != 2:
        raise ValueError("`seed` must be None, an integer or a [2] tensor of integers. "
                         f"Received: seed={seed}")
    return seed


def fold_in(seed, data):
    """A new seed from `seed` and the integer `data` (a block's index, a step, a replica)."""
    return tf.random.fold_in(as_seed(seed), data)
