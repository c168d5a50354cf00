"""The small public tools: traces, determinants, products with Hessians, linear systems."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tfresflow import functions, logdet, solvers

TRACES = {"hutchinson": functions.hutchinson_trace, "hutchpp": functions.hutchpp_trace}
every_trace = pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
PROBES = pytest.mark.parametrize("probe", [logdet.rademacher, logdet.normal],
                                 ids=["signs", "normal"])


def matrices(n=2, size=4, seed=0):
    """`[n, size, size]`, not symmetric."""
    return tf.constant(np.random.RandomState(seed).randn(n, size, size))


def times(matrix):
    return lambda v: tf.linalg.matvec(matrix, v)


def decaying(size=40):
    """Symmetric, with eigenvalues 1, 1/4, 1/9, ..., `[1, size, size]`."""
    basis = np.linalg.qr(np.random.RandomState(0).randn(size, size))[0]
    return tf.constant((basis * np.arange(1.0, size + 1) ** -2) @ basis.T)[tf.newaxis]


def draws(trace, matrix, count, num_probes, **kwargs):
    """`[count]` estimates of the trace of one matrix `[1, D, D]`: rows of a batch."""
    x = tf.zeros([count, matrix.shape[-1]], matrix.dtype)
    return np.asarray(trace(times(matrix), x, num_probes, seed=0, **kwargs))


def check_mean(found, want):
    stderr = found.std(ddof=1) / np.sqrt(len(found))
    assert 0 < stderr and abs(found.mean() - float(want)) < 4 * stderr


@PROBES
@every_trace
def test_traces_are_unbiased(trace, probe):
    a = matrices(n=1)
    check_mean(draws(trace, a, 4000, 2, probe=probe), tf.linalg.trace(a)[0])


@every_trace
def test_the_gradient_of_a_trace_is_unbiased(trace):
    """Of `tr(A^2 + t A)`, t in a row of its own for each draw."""
    a, t = matrices(n=1), tf.zeros([4000, 1], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(t)
        value = trace(lambda v: times(a)(times(a)(v) + t * v), tf.zeros([4000, 4], t.dtype), 2, 0)
    check_mean(tape.gradient(value, t).numpy()[:, 0], tf.linalg.trace(a)[0])


def test_the_variance_of_hutchinson_is_the_one_it_says():
    a = matrices(n=1)
    symmetric = (a + tf.linalg.matrix_transpose(a)) / 2
    off_diagonal = tf.linalg.set_diag(symmetric, tf.zeros([1, 4], tf.float64))
    found = draws(functions.hutchinson_trace, a, 4000, 2).var()
    assert found == pytest.approx(float(tf.reduce_sum(off_diagonal ** 2)), rel=0.1)


def test_hutchpp_has_far_less_variance_for_as_many_products():
    a = decaying()
    plain = draws(functions.hutchinson_trace, a, 400, 12)
    better = draws(functions.hutchpp_trace, a, 400, 4)
    assert better.var() < plain.var() / 20, (better.var(), plain.var())
    check_mean(better, tf.linalg.trace(a)[0])


def test_hutchpp_is_exact_for_as_many_probes_as_the_rank():
    a = matrices(size=5)[:, :, :2] @ matrices(size=5)[:, :2, :]
    found = functions.hutchpp_trace(times(a), tf.zeros([2, 5], tf.float64), 2, seed=0)
    np.testing.assert_allclose(found, tf.linalg.trace(a), rtol=1e-11)


def test_orthogonal_probes_make_hutchinson_exact():
    a, x = matrices(size=5), tf.zeros([2, 5], tf.float64)
    found = functions.hutchinson_trace(times(a), x, 8, seed=0, probe=logdet.orthogonal)
    np.testing.assert_allclose(found, tf.linalg.trace(a), rtol=1e-12)


@every_trace
def test_traces_of_images_and_of_any_number_of_rows(trace):
    """The same as of rows of as many numbers."""
    x = example([3, 2, 1], 4)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, 3, 2, 1], tf.float64)])
    def divergence(x):
        return trace(lambda v: tf.cos(x) * v, x, 2, seed=0)

    flat = tf.cos(tf.reshape(x, [4, 6]))
    np.testing.assert_allclose(
        divergence(x), trace(lambda v: flat * v, tf.zeros_like(flat), 2, seed=0), rtol=1e-12)
    assert divergence(x[:0]).shape == [0]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_gradient_of_log_abs_det_is_the_inverse_transposed(size):
    x = matrices(n=3, size=size)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = functions.log_abs_det(x)
    np.testing.assert_allclose(value, np.linalg.slogdet(x)[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(tape.gradient(value, x), np.linalg.inv(x).swapaxes(1, 2),
                               rtol=1e-11)


@pytest.mark.parametrize("size", [2, 3])
def test_log_abs_det_of_matrices_of_any_size(size):
    """A determinant would overflow, or vanish, where its logarithm does neither."""
    for factor in (1e-150, 1e150, 1e-300):
        x = factor * matrices(n=3, size=size)
        np.testing.assert_allclose(functions.log_abs_det(x), np.linalg.slogdet(x)[1], rtol=1e-12)
    zeros = np.zeros([1, size, size])
    assert functions.log_abs_det(zeros) == functions.log_abs_det(zeros + 1) == -np.inf


def test_products_with_the_hessian():
    """Of each example, against the whole Hessian; `tf.hessians` gives the same."""
    x, v = example([3], 2), example([3], 2, seed=1)

    def function(x):
        return tf.sin(x[:, 0] * x[:, 1]) + x[:, 2] ** 3 * x[:, 0]

    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        gradient = tape.gradient(value, x)
    hessian = outer.batch_jacobian(gradient, x)
    got = functions.hessian_vector_product(function, x, v)
    np.testing.assert_allclose(got, tf.linalg.matvec(hessian, v), rtol=1e-12)

    @tf.function(autograph=False)
    def of_one(x):
        return tf.hessians(function(x[tf.newaxis])[0], x)[0]

    np.testing.assert_allclose(got[0], tf.linalg.matvec(of_one(x[0]), v[0]), rtol=1e-12)


def test_products_with_the_hessian_of_weights():
    """Of a Keras model, by differences of the gradient."""
    model = keras.Sequential([keras.layers.Dense(4, "tanh", dtype="float64"),
                              keras.layers.Dense(1, dtype="float64")])
    x = example([3], 5)
    model(x)
    weights, v = model.trainable_variables, [example(w.shape, 1)[0] for w in model.weights]

    def loss(_):
        return tf.reduce_sum(tf.sin(model(x)))

    def gradient():
        with tf.GradientTape() as tape:
            value = loss(weights)
        return tape.gradient(value, [w.value for w in weights])

    got, ends = functions.hessian_vector_product(loss, weights, v), []
    for factor in (1e-5, -2e-5):
        for w, t in zip(weights, v):
            w.assign_add(factor * t)
        ends.append(gradient())
    for found, above, below in zip(got, *ends):
        np.testing.assert_allclose(found, (above - below) / 2e-5, rtol=1e-6, atol=1e-8)


def test_of_a_linear_function_the_product_is_zero():
    x = [tf.Variable(tf.ones([2])), tf.ones([3])]
    got = functions.hessian_vector_product(lambda x: 2 * tf.reduce_sum(x[0]), x, x)
    assert not np.any(got[0]) and not np.any(got[1]) and got[1].shape == [3]


def dense(size=4):
    """A of each example, near the identity, and b."""
    return tf.eye(size, dtype=tf.float64) + 0.2 * matrices(size=size), example([size], 2)


@pytest.mark.fast("BiCGSTAB", "Normal")
@pytest.mark.parametrize("solver", [solvers.BiCGSTAB(), solvers.Direct(), solvers.Normal(),
                                    solvers.Neumann()], ids=lambda s: type(s).__name__)
def test_linear_solve_and_its_gradient(solver):
    """Those of the dense solve: of a matrix that is an argument, and of one that is not."""
    a, b = dense()
    weight = tf.Variable(a)

    def slopes(solve):
        with tf.GradientTape() as tape:
            tape.watch([a, b])
            value = solve()
            loss = tf.reduce_sum(tf.sin(value) * [1.0, 2.0, 3.0, 4.0])
        return value, *tape.gradient(loss, [b, a, weight], unconnected_gradients="zero")

    def by_products(*args):
        return solvers.linear_solve(
            lambda z, a=weight: tf.linalg.matvec(a, z), b, args, solver).value

    value, db, da, _ = slopes(lambda: tf.linalg.solve(a, b[..., tf.newaxis])[..., 0])
    for got, want in zip(slopes(lambda: by_products(a)), (value, db, da, 0 * da)):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)
    for got, want in zip(slopes(by_products), (value, db, 0 * da, da)):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


def test_second_derivatives_of_a_linear_solve():
    """Of a traced gradient, by differences."""
    a, b = dense()
    along = tf.ones_like(a)

    @tf.function(autograph=False)
    def gradient(a):
        with tf.GradientTape() as tape:
            tape.watch(a)
            z = solvers.linear_solve(lambda z, a: tf.linalg.matvec(a, z), b, [a],
                                     solvers.Direct()).value
            loss = tf.reduce_sum(z ** 2)
        return tape.gradient(loss, a)

    with tf.GradientTape() as tape:
        tape.watch(a)
        product = tf.reduce_sum(gradient(a) * along)
    step = 1e-5
    want = (gradient(a + step * along) - gradient(a - step * along)) / (2 * step)
    np.testing.assert_allclose(tape.gradient(product, a), want, rtol=1e-6, atol=1e-7)


def test_linear_solve_that_does_not_converge():
    b = tf.ones([1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="A linear system did not converge"):
        solvers.linear_solve(tf.zeros_like, b)
    assert not solvers.linear_solve(tf.zeros_like, b, on_failure="ignore").converged
    two = solvers.linear_solve(lambda z: z / 2, b, solver=solvers.Neumann(num_terms=1))
    np.testing.assert_array_equal(two.value, 1.5 * b)  # of a fixed number of terms no more is asked


@pytest.mark.parametrize("call, said", [
    (lambda: functions.hutchinson_trace(3, tf.zeros([1, 2])), "matvec"),
    (lambda: functions.hutchinson_trace(lambda v: v, tf.zeros([1, 2], tf.int32)), "`x`"),
    (lambda: functions.hutchinson_trace(lambda v: v, tf.zeros([1, 2]), 0), "num_probes"),
    (lambda: functions.hutchinson_trace(lambda v: v[:, :1], tf.zeros([1, 2])), "matvec"),
    (lambda: functions.hutchinson_trace(lambda v: v, tf.zeros([1, 2]), probe="normal"), "probe"),
    (lambda: functions.hutchpp_trace(lambda v: v, tf.zeros([1, 2]), 3), "2 numbers"),
    (lambda: functions.log_abs_det(tf.zeros([2, 3])), "matrix"),
    (lambda: functions.log_abs_det(tf.zeros([])), "matrix"),
    (lambda: functions.hessian_vector_product(tf.ones([1]), tf.ones([1]), tf.ones([1])),
     "function"),
    (lambda: functions.hessian_vector_product(tf.sin, tf.ones([1]), [tf.ones([1])]), "`v`"),
    (lambda: functions.hessian_vector_product(tf.sin, tf.ones([1]), tf.ones([2])), "`v`"),
    (lambda: solvers.linear_solve(lambda z: z, tf.zeros([1]), solver=solvers.Anderson()),
     "solver"),
    (lambda: solvers.linear_solve(lambda z: z[:, :1], tf.zeros([1, 2])), "matvec"),
    (lambda: solvers.linear_solve(tf.ones([1]), tf.zeros([1, 2])), "matvec"),
    (lambda: solvers.linear_solve(lambda z: z, tf.zeros([1, 2]), on_failure="no"), "on_failure")])
def test_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call()
