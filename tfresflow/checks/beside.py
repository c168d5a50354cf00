"""Labels and weights beside rows: one for each, before Keras or TensorFlow pairs them."""

import keras
import numpy as np
import tensorflow as tf

__all__ = ["check_codes", "check_labels", "check_weights"]


def check_codes(name, codes, count, least=0, whose=""):
    """Raises `ValueError` unless all are numbers of one of `count` classes.

    Args:
      name: of the argument.
      codes: an array, or a tensor at hand.
      count: of classes.
      least: of the codes; less than 0, where those stand for nothing.
      whose: the codes are, for the error.
    """
    codes = np.asarray(codes)
    bad = codes[(codes != np.rint(codes)) | (codes < least) | (codes >= count)]
    if len(bad):
        raise ValueError(f"`{name}` must be whole numbers from 0 to {count - 1}{whose}. "
                         f"Received: {bad[0]:g}")


def check_labels(name, labels, count, rows):
    """Raises `ValueError` unless there is a label for each row.

    Args:
      name: of the argument.
      labels: an array, or a nested structure of such; None: there are none. Values do not count.
      count: of rows.
      rows: what they are called.
    """
    if labels is None:
        return
    leaves = [leaf for leaf in keras.tree.flatten(labels) if hasattr(leaf, "shape")] or [labels]
    for shape in map(np.shape, leaves):
        if not tf.TensorShape(shape)[:1].is_compatible_with([count]):
            raise ValueError(f"`{name}` must be {count} labels, one for each row of `{rows}`. "
                             f"Received: shape={tuple(shape)}")


def check_weights(name, shape, count, rows):
    """Raises `ValueError` if it is known that there is not one weight for each row.

    Args:
      name: of the argument.
      shape: of the weights, `[N]` or `[N, 1]`, as far as it is known.
      count: of rows, None if it is not known.
      rows: what they are called.
    """
    shape = tf.TensorShape(shape)
    if not any(shape.is_compatible_with(fit) for fit in ([count], [count, 1])):
        raise ValueError(f"`{name}` must be {'N' if count is None else count} numbers, one for "
                         f"each row of `{rows}`. Received: shape={tuple(shape)}")
