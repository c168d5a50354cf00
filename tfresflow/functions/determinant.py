"""The logarithm of a determinant."""

import tensorflow as tf

from tfresflow.batches import xla
from tfresflow.checks.rules import check

__all__ = ["log_abs_det"]


def log_abs_det(matrix):
    """`log |det X|` of each matrix X of a batch; its gradient with respect to X is `X^-T`.

    It can be differentiated to any order, and compiled by XLA, which has no determinant of its own.
    Of large Jacobians, take an unbiased estimate from products with them: `logdet.LogDet`.

    Args:
      matrix: `[..., D, D]`, of floats.

    Returns:
      `[...]`; minus infinity where X is singular.

    Raises:
      ValueError: if `matrix` is not square, or D is unknown.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import functions
      >>> X = tf.constant([[4., 0.], [1., 2.]])
      >>> with tf.GradientTape() as tape:
      ...     tape.watch(X)
      ...     value = functions.log_abs_det(X)
      >>> round(float(value), 4)                     # log 8
      2.0794
      >>> print(tape.gradient(value, X).numpy())     # the inverse is [[1/4, 0], [-1/8, 1/2]]
      [[ 0.25  -0.125]
       [ 0.     0.5  ]]

    References: Giles, Collected matrix derivative results for forward and reverse mode algorithmic
    differentiation (2008), section 2.2.4.
    """
    matrix = tf.convert_to_tensor(matrix)
    shape = matrix.shape
    check(shape.rank is not None and shape.rank >= 2 and shape[-1] and shape[-1] == shape[-2],
          "matrix", "be of shape [..., D, D]", shape)
    if shape[-1] == 1:
        return tf.math.log(tf.abs(matrix[..., 0, 0]))
    if shape[-1] == 2:
        return _of_two_rows(matrix)
    if not xla.is_compiling():
        return tf.linalg.slogdet(matrix).log_abs_determinant
    triangle = tf.linalg.qr(matrix).r
    return tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(triangle))), axis=-1)


def _of_two_rows(matrix):
    """By elimination, the larger number of the first column being the pivot."""
    first, second = tf.unstack(matrix, axis=-2)
    swap = tf.abs(second[..., :1]) > tf.abs(first[..., :1])
    (a, b), (c, d) = (tf.unstack(tf.where(swap, *rows), axis=-1)
                      for rows in ((second, first), (first, second)))
    return tf.math.log(tf.abs(a)) + tf.math.log(tf.abs(d - tf.math.divide_no_nan(c, a) * b))
