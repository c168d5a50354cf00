"""Linear systems `(I - M) z = b` of few numbers, from the whole matrix."""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.batches.rows import norm
from tfresflow.solvers.linear import LinearSolver
from tfresflow.solvers.solution import Solution, Tolerance
from tfresflow.solvers.unknowns import system

__all__ = ["Direct", "eliminated"]


@keras.saving.register_keras_serializable("tfresflow.solvers")
@dataclasses.dataclass(frozen=True)
class Direct(LinearSolver):
    """Forms M by D products, D the size of one b, and eliminates: O(D^3) for each example.

    Where D is small there is nothing faster: in the plane it takes two products, all at once, in
    place of those that `BiCGSTAB` makes one after the other.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import solvers
      >>> m = tf.constant([[0.0, 0.5], [-0.5, 0.0]])
      >>> solution = solvers.Direct()(lambda z: z @ m, tf.constant([[0.0, 5.0]]))
      >>> print(solution.value.numpy().round(2), solution.num_steps.numpy())
      [[-2.  4.]] [2]
    """

    # Of `Tolerance`: as the float type can resolve it.
    rtol = atol = None

    def __call__(self, matvec, b, adjoint=None):
        """Solves `(I - M) z = b`."""
        matvec, b = system(matvec, b)
        n, size = tf.shape(b)[0], b.shape[1:].num_elements()
        units = tf.reshape(tf.eye(size, dtype=b.dtype), [size, 1, *b.shape[1:]])
        copies = [n] + [1] * (b.shape.rank - 1)
        columns = [tf.reshape(unit - matvec(unit), [-1, size])
                   for unit in (tf.ensure_shape(tf.tile(u, copies), b.shape)
                                for u in tf.unstack(units))]
        flat = tf.reshape(b, [-1, size])
        z = eliminated(columns, flat)
        left = flat - tf.add_n([z[:, j:j + 1] * column for j, column in enumerate(columns)])
        residual, size_of_z, tolerance = norm(left), norm(z), Tolerance(self, b.dtype, norm(b))
        return Solution(tf.ensure_shape(tf.reshape(z, tf.shape(b)), b.shape),
                        tf.fill([n], size), residual,
                        tolerance.reached(residual, size_of_z)
                        | tolerance.near_rounding(residual, size_of_z))


def eliminated(columns, b):
    """z of `sum_j z_j columns_j = b`, each `[N, D]`."""
    if len(columns) == 1:
        return b / columns[0]
    if len(columns) > 2:
        single = b.dtype if b.dtype.size >= 4 else tf.float32  # no halves can be solved
        matrix, right = (tf.cast(t, single) for t in (tf.stack(columns, 2), b[:, :, tf.newaxis]))
        return tf.cast(tf.linalg.solve(matrix, right)[:, :, 0], b.dtype)
    (u0, u1), (v0, v1), (b0, b1) = (tf.unstack(t, axis=1) for t in (*columns, b))
    determinant = u0 * v1 - u1 * v0
    return tf.stack([(b0 * v1 - b1 * v0) / determinant, (u0 * b1 - u1 * b0) / determinant], axis=1)
