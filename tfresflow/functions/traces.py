"""Estimates of a trace from products with the matrix: Hutchinson's, and Hutch++."""

import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.batches.probes import rademacher
from tfresflow.checks.rules import check, check_function, check_whole

__all__ = ["hutchinson_trace", "hutchpp_trace"]


def hutchinson_trace(matvec, x, num_probes=1, seed=None, probe=rademacher):
    """An unbiased estimate of the trace of a matrix A, for each example of a batch.

    The mean of `v^T A v` over random vectors v with `E[v v^T] = I` is the trace of A. With random
    signs the variance is `2 / num_probes` times the sum of the squares of the entries of
    `(A + A^T) / 2` that are not on the diagonal. The estimate can be differentiated, and its
    gradient is unbiased as well.

    Args:
      matvec: `v -> A v`, `[N, ...] -> [N, ...]`, a linear map of each example by itself.
      x: `[N, ...]`, of floats; only its shape and dtype count. Each example has a matrix of its
        own, of D rows and columns, D the numbers in an example.
      num_probes: how many v the mean is taken over; each costs one product.
      seed: an integer or a `[2]` tensor; None: other vectors at each call.
      probe: `logdet.rademacher`, `logdet.normal` or `logdet.orthogonal`. The last one is exact for
        D or more vectors if their number is a power of two, and D is at most 64.

    Returns:
      `[N]`.

    Raises:
      ValueError: if an argument is not what it should be, or `matvec` changes the shape or dtype.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import functions, logdet
      >>> A = tf.constant([[[2., 1.], [1., 3.]], [[1., 5.], [0., 1.]]])    # traces 5 and 2
      >>> def matvec(v):
      ...     return tf.linalg.matvec(A, v)
      >>> functions.hutchinson_trace(matvec, tf.zeros([2, 2]), 10_000, seed=0).numpy().round()
      array([5., 2.], dtype=float32)
      >>> functions.hutchinson_trace(
      ...     matvec, tf.zeros([2, 2]), 2, seed=0, probe=logdet.orthogonal).numpy()
      array([5., 2.], dtype=float32)

    References: Hutchinson, A stochastic estimator of the trace of the influence matrix for
    Laplacian smoothing splines (1990).
    """
    x = _checked(matvec, x, num_probes, probe)
    v = _vectors(x, num_probes, seeds.starting(seed, 0), probe)
    return _quadratic(matvec, x, v) / num_probes


def hutchpp_trace(matvec, x, num_probes=1, seed=None, probe=rademacher):
    """As `hutchinson_trace`, with far less variance where a few eigenvalues are the largest.

    A few products with random vectors give a basis Q of directions that A makes long. The trace
    within them is computed exactly, and only that of the rest is estimated:

        tr(A) = tr(Q^T A Q) + tr((I - Q Q^T) A (I - Q Q^T))

    For a positive semi-definite A the standard deviation falls as `1 / num_probes`; that of
    `hutchinson_trace` as `1 / sqrt(num_probes)`. It is unbiased for any A, and so is its gradient.

    Args:
      matvec, x, seed, probe: as for `hutchinson_trace`.
      num_probes: directions in Q, and as many vectors for the rest; at most D. The cost is
        `3 num_probes` products.

    Returns:
      `[N]`.

    Raises:
      ValueError: as for `hutchinson_trace`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import functions
      >>> A = tf.linalg.diag([[100., 0., 0.]]) + tf.ones([1, 3, 3])        # its trace is 103
      >>> trace = functions.hutchpp_trace(
      ...     lambda v: tf.linalg.matvec(A, v), tf.zeros([1, 3]), 2, seed=0)
      >>> trace.numpy().round()                                            # A has rank two
      array([103.], dtype=float32)

    References: Meyer, Musco, Musco and Woodruff, Hutch++: Optimal Stochastic Trace Estimation
    (2021), algorithm 1.
    """
    x = _checked(matvec, x, num_probes, probe)
    size = x.shape[1:].num_elements()
    check(num_probes <= size, "num_probes", f"be at most the {size} numbers of an example",
          num_probes)
    of_basis, of_rest = seeds.split(seeds.starting(seed, 0), 2)
    sketch = _products(matvec, x, _vectors(x, num_probes, of_basis, probe))
    # The two parts add up to the trace whatever Q is: so Q may be taken for a constant.
    q = tf.stop_gradient(tf.linalg.qr(sketch).q)
    v = _vectors(x, num_probes, of_rest, probe)
    v -= q @ tf.matmul(q, v, transpose_a=True)
    return _quadratic(matvec, x, q) + _quadratic(matvec, x, v) / num_probes


def _checked(matvec, x, num_probes, probe):
    """x as a tensor, once all arguments are what they should be."""
    check_function("matvec", matvec, "be a function v -> A v", 1)
    check_whole("num_probes", num_probes, 1)
    check_function("probe", probe, "be logdet.rademacher, or a function (shape, seed, dtype)", 3)
    x = tf.convert_to_tensor(x)
    fits = x.dtype.is_floating and x.shape.rank and x.shape[1:].is_fully_defined()
    check(fits, "x", "be a tensor of floats [N, ...], of known size but for N",
          f"{x.dtype.name} {x.shape}")
    return x


def _vectors(x, count, seed, probe):
    """`[N, D, count]` random vectors of examples as x."""
    n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
    v = probe([n, count, *x.shape[1:]], seed, x.dtype)
    return tf.linalg.matrix_transpose(tf.reshape(v, [n, count, x.shape[1:].num_elements()]))


def _products(matvec, x, vectors):
    """A times each of `[N, D, count]` vectors."""
    products = []
    for v in tf.unstack(vectors, axis=2):
        v = tf.ensure_shape(tf.reshape(v, tf.shape(x)), x.shape)
        y = tf.convert_to_tensor(matvec(v))
        check(y.dtype == x.dtype and y.shape.is_compatible_with(x.shape), "matvec",
              f"keep the shape and dtype of x, {x.dtype.name} {x.shape}",
              f"{y.dtype.name} {y.shape}")
        products.append(tf.reshape(y, tf.shape(vectors)[:2]))
    return tf.stack(products, axis=2)


def _quadratic(matvec, x, vectors):
    """`[N]`: the sum of `v^T A v` over `[N, D, count]` vectors."""
    return tf.reduce_sum(vectors * _products(matvec, x, vectors), axis=[1, 2])
