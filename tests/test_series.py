"""The sum of the series, by products and by the matrix, against powers of J."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfresflow.logdet.series import sum_series


@pytest.mark.parametrize("products", [False, True])
def test_weights_of_the_terms(products):
    """Each c_k counts in the value and in the Neumann vector, in both rules for the sum."""
    rng = np.random.RandomState(0)
    j, v = 0.4 * rng.normal(size=(2, 2)), rng.normal(size=(5, 2))
    c = np.r_[1, rng.uniform(0.5, 2, size=7)]
    powers = [v @ np.linalg.matrix_power(j, k) for k in range(8)]
    log_det = sum((-1) ** (k + 1) / k * c[k] * np.sum(powers[k] * v, axis=1) for k in range(1, 8))
    w = sum((-1) ** k * c[k] * powers[k] for k in range(8))
    jacobian = types.SimpleNamespace(
        matrix=None if products else [[tf.fill([5], entry) for entry in col] for col in j.T],
        vjp=lambda u: u @ j)
    got = sum_series(jacobian, [tf.constant(v)], tf.constant(c))
    np.testing.assert_allclose(got[0], log_det, rtol=1e-12)
    np.testing.assert_allclose(got[1][0], w, rtol=1e-12)


@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-13), ("float32", 2e-5)])
@pytest.mark.parametrize("angle, tilt", [(0, 0), (np.pi, 0), (1.2, 0), (np.pi, 0.2)])
def test_series_of_the_plane_next_to_the_boundary(angle, tilt, dtype, rtol):
    """42 terms of a J of norm 0.98 or more: I, -I, a rotation, a double eigenvalue; both sums."""
    c, s = np.cos(angle), np.sin(angle)
    j, v = 0.98 * np.array([[c, -s], [s + tilt, c]]), np.random.RandomState(0).normal(size=(9, 2))
    u, log_det, w = v, 0.0, v
    for k in range(1, 43):
        u = u @ j
        log_det, w = log_det - (-1) ** k / k * np.sum(u * v, axis=1), w + (-1) ** k * u
    matrix = [[tf.fill([9], tf.constant(entry, dtype)) for entry in column] for column in j.T]
    got = sum_series(types.SimpleNamespace(matrix=matrix),
                     [tf.constant(v.astype(dtype))], tf.ones([43], dtype))
    for a, b in zip(got, (log_det, [w])):
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * np.abs(b).max())
