"""Fixed-point solvers: true residuals, certified errors, no influence of batchmates."""

import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.registry import branch, example
from tfresflow import layers, solvers

SOLVERS = {"picard": solvers.Picard(), "anderson": solvers.Anderson(),
           "broyden": solvers.Broyden(), "newton": solvers.Newton()}
every_solver = pytest.mark.parametrize("name", SOLVERS)
# Newton's method solves linear maps in one step, and finds fixed points of what is no contraction.
every_iteration = pytest.mark.parametrize("name", ["picard", "anderson", "broyden"])


def linear(norm, size=6, seed=0):
    """`F(x) = A x + b` with `||A|| = norm` and its fixed point."""
    rng = np.random.RandomState(seed)
    a = rng.randn(size, size)
    a *= norm / np.linalg.svd(a, compute_uv=False)[0]
    b = rng.randn(5, size)
    return (lambda x: x @ a.T + b), np.linalg.solve(np.eye(size) - a, b.T).T


@pytest.mark.fast("traced-0.5-picard", "traced-0.9-picard", "traced-0.9-anderson",
                  "traced-0.98-picard", "eager-0.5-anderson", "eager-0.5-broyden",
                  "eager-0.9-picard", "eager-0.9-anderson", "eager-0.9-broyden")
@every_solver
@pytest.mark.parametrize("norm", [0.5, 0.9, 0.98])
@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_certified_error(name, norm, wrap):
    function, solution = linear(norm)
    got = wrap(lambda x: SOLVERS[name](function, x))(tf.zeros([5, 6], tf.float64))
    error = np.linalg.norm(got.value - solution, axis=1)
    assert np.all(got.converged) and np.all(error <= got.error_bound(norm) + 1e-14)
    assert np.all(error < 1e-9), error
    residual = np.linalg.norm(function(got.value) - got.value, axis=1)
    np.testing.assert_allclose(got.residual, residual, rtol=0, atol=1e-15)


@pytest.mark.fast(but=["picard"])
@every_solver
def test_step_sizes_do_not_pass_for_residuals(name):
    """Where steps shrink slowly, stopping by the step would leave an error of 50 times it."""
    function, solution = linear(0.98, size=1)
    solver = type(SOLVERS[name])(rtol=0.0, atol=1e-5)
    got = solver(function, tf.zeros([5, 1], tf.float64))
    error = np.linalg.norm(got.value - solution, axis=1)
    assert np.all(got.residual <= 1e-5) and np.all(error <= 1e-5 / 0.02 + 1e-12), error


@pytest.mark.fast("picard")
@every_iteration
def test_each_example_stops_by_itself(name):
    """An example that starts at its answer takes one step, and its answer is its own."""
    function, solution = linear(0.95)
    start = np.zeros([5, 6])
    start[2] = solution[2]
    got = SOLVERS[name](function, tf.constant(start))
    assert got.num_steps[2] == 1 and np.all(np.delete(got.num_steps, 2) > 3)
    other = start.copy()
    other[[0, 1, 3, 4]] += 100.0
    again = SOLVERS[name](function, tf.constant(other))
    np.testing.assert_array_equal(again.value[2], got.value[2])


def test_newton_squares_the_residual():
    """Of a map that hardly contracts, in the plane: each example by itself."""
    rng = np.random.RandomState(0)
    a, b = 0.99 * np.linalg.qr(rng.randn(2, 2))[0], rng.randn(5, 2)
    start = np.zeros([5, 2])

    def function(x):
        return tf.sin(x @ a + b)

    got, picard = (SOLVERS[name](function, tf.constant(start)) for name in ("newton", "picard"))
    assert np.all(got.converged) and np.all(got.num_steps / picard.num_steps < 0.5)
    start[2] = got.value[2]
    again = SOLVERS["newton"](function, tf.constant(start))
    np.testing.assert_array_equal(again.num_steps, np.where(np.arange(5) == 2, 1, got.num_steps))
    np.testing.assert_allclose(again.value, got.value, rtol=0, atol=1e-12)


def test_anderson_needs_fewer_steps_than_picard():
    function, _ = linear(0.98)
    x = tf.zeros([5, 6], tf.float64)
    steps = {name: np.mean(s(function, x).num_steps) for name, s in SOLVERS.items()}
    assert steps["anderson"] < 0.5 * steps["picard"], steps


@pytest.mark.parametrize("name", ["anderson", "newton"])
def test_converges_where_extrapolation_is_bad(name):
    """A piecewise map on which plain extrapolation cycles: the fallback is Picard."""
    def function(x):
        return 0.97 * tf.abs(tf.math.floormod(x, 2.0) - 1.0)  # a contraction by 0.97, kinked

    x = tf.constant(np.linspace(-20, 20, 41)[:, None])
    got = SOLVERS[name](function, x)
    assert np.all(got.converged), got.residual
    np.testing.assert_allclose(function(got.value), got.value, atol=1e-9)


@pytest.mark.fast("picard", "anderson")
@every_solver
def test_contractions_in_another_norm(name):
    """The 2-norm of the residual may rise on the way: no reason to go in circles."""
    rng = np.random.RandomState(0)
    for size in (16, 64):
        a = rng.randn(size, size)
        a *= 0.9 / np.abs(a).sum(1).max()
        b = rng.randn(3, size)
        got = SOLVERS[name](lambda x: x @ a.T + b, tf.zeros([3, size], tf.float64))
        assert np.all(got.converged), got.residual
    layer = layers.InducedNormDense(64, 0.95, domain=np.inf, codomain=np.inf, dtype="float64")
    block = bijectors.InvertibleResidual(layer, [64], solver=SOLVERS[name])
    z = 3 * example([64])
    np.testing.assert_allclose(block.forward(tf.identity(block.inverse(z))), z, atol=1e-9)


@pytest.mark.fast("picard")
@every_solver
def test_one_example_that_is_not_finite(name):
    function, _ = linear(0.9)
    start = np.zeros([5, 6])
    start[1, 2], start[3, 0] = np.nan, np.inf
    got, want = (SOLVERS[name](function, tf.constant(x)) for x in (start, 0 * example([6], 5)))
    np.testing.assert_array_equal(got.converged, [True, False, True, False, True])
    np.testing.assert_array_equal(got.value.numpy()[[0, 2, 4]], want.value.numpy()[[0, 2, 4]])
    assert np.max(got.num_steps.numpy()[[1, 3]]) < 50


@every_iteration
def test_divergence_is_not_convergence(name):
    got = SOLVERS[name](lambda x: 3 * x + 1 + x ** 2, tf.ones([2, 3]))
    assert not np.any(got.converged) and np.max(got.num_steps) < 1001


@every_solver
def test_a_domain_that_steps_may_leave(name):
    """Not a number outside: the step is taken back."""
    x = tf.constant(np.linspace(0, 9, 41)[:, None])
    got = SOLVERS[name](lambda x: 0.9 * tf.sqrt(x + 0.01), x)
    assert np.all(got.converged)


@every_solver
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(name, dtype):
    got = SOLVERS[name](lambda x: tf.cast(0.5, x.dtype) * tf.cos(x), tf.ones([4, 3], dtype))
    assert np.all(got.converged)
    np.testing.assert_allclose(tf.cast(got.value, tf.float32), 0.4502, atol=0.02)


def test_a_start_of_another_shape():
    with pytest.raises(ValueError, match=r"`x` must have the shape and dtype of `function\(x\)`"):
        solvers.Picard()(lambda x: 0.5 * x + tf.ones([5, 2]), tf.zeros([1, 2]))


@pytest.mark.fast("picard")
@every_iteration
def test_not_converged_is_said(name):
    solver = type(SOLVERS[name])(max_steps=3)
    function, _ = linear(0.98)
    got = solver(function, tf.zeros([5, 6], tf.float64))
    assert not np.any(got.converged) and np.all(got.num_steps == 3)
    residual = np.linalg.norm(function(got.value) - got.value, axis=1)
    np.testing.assert_allclose(got.residual, residual, rtol=1e-12)
    block = bijectors.InvertibleResidual(branch([3]), [3], solver=solver)
    for inverse in (block.inverse, tf.function(block.inverse)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="did not converge. Likely causes"):
            inverse(3 * example([3]))


@pytest.mark.parametrize("make, message", [
    (lambda: solvers.Picard(rtol=-1.0), r"`rtol` must not be negative. Received: rtol=-1.0"),
    (lambda: solvers.Picard(max_steps=0), r"`max_steps` must be at least 1"),
    (lambda: solvers.Anderson(window=1),
     "`window` must be at least 2, a whole number. Received: window=1"),
    (lambda: solvers.Anderson(ridge=0.0), r"`ridge` must be positive"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.fast("Broyden")
@pytest.mark.parametrize("accelerated", [solvers.Anderson, solvers.Broyden])
def test_sampling_near_norm_one(accelerated):
    """64 images to a true residual of 1e-6 in at most 0.6 of Picard's evaluations of g."""
    g = branch([8, 8, 4], hidden=16, coeff=0.98)
    g.build((None, 8, 8, 4))
    # x -> Q^T phi(Q x), both at their bound: as near to norm one as training brings it.
    q = np.linalg.qr(np.random.RandomState(0).randn(16, 4))[0].T
    center = np.zeros([3, 3, 4, 16])
    center[1, 1] = 2 * q
    for layer, kernel in ((g.layers[0], center), (g.layers[2], 2 * q.T[None, None])):
        layer.kernel.assign(kernel)
        layer.refresh_norm()
    z = 5 * example([8, 8, 4], 64)
    counts = {}
    for kind in (solvers.Picard, accelerated):
        block = bijectors.InvertibleResidual(g, [8, 8, 4], solver=kind(rtol=0.0, atol=1e-6))
        got = block.solve(z)
        assert np.all(got.converged)
        residual = tf.norm(tf.reshape(z - g(got.value) - got.value, [64, -1]), axis=1)
        assert np.all(residual <= 1e-6)
        counts[kind] = int(np.max(got.num_steps))
    assert 40 < counts[solvers.Picard] >= counts[accelerated] / 0.6, counts


@pytest.mark.fast("picard")
@every_solver
def test_a_tolerance_that_the_float_type_cannot_reach(name):
    """By default, near rounding errors is done; a tolerance of one's own is kept to."""
    def function(x):
        return 0.5 * x + 1.0 + 2e-5 * tf.sin(1e7 * x)  # what rounding inside of F may look like

    x = tf.zeros([3, 4])
    got = type(SOLVERS[name])()(function, x)
    strict = type(SOLVERS[name])(rtol=1e-9, atol=0.0, max_steps=60)(function, x)
    assert np.all(got.converged) and np.max(got.num_steps) < 200
    small = strict.residual <= 1e-9 * tf.norm(strict.value, axis=1)
    np.testing.assert_array_equal(strict.converged, small)
    np.testing.assert_allclose(got.residual, np.linalg.norm(
        function(got.value) - got.value, axis=1), rtol=1e-6)
