"""Solvers of `(I - M) z = b`: against the dense solve, each other, and what theory says of them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfresflow import logdet, solvers

SOLVERS = {"neumann": solvers.Neumann(), "neumann_by_bound": solvers.Neumann(lipschitz=0.9),
           "fixed_point": solvers.FixedPoint(),
           "fixed_point_uniform": solvers.FixedPoint(start="uniform", seed=3),
           "bicgstab": solvers.BiCGSTAB(), "direct": solvers.Direct(), "normal": solvers.Normal()}
every_solver = pytest.mark.parametrize("name", SOLVERS)


def system(norm=0.9, size=6, seed=0, batch=5, symmetric=False):
    """`(matvec, b, adjoint, solution)`, `||M|| = norm`."""
    rng = np.random.RandomState(seed)
    m = rng.randn(size, size)
    m = m + m.T if symmetric else m
    m *= norm / np.linalg.norm(m, 2)
    b = rng.randn(batch, size)
    solution = np.linalg.solve(np.eye(size) - m, b.T).T
    return (lambda z: z @ m.T), tf.constant(b), (lambda z: z @ m), solution


@pytest.mark.fast("eager-fixed_point", "eager-neumann", "eager-neumann_by_bound",
                  "eager-fixed_point_uniform", "eager-bicgstab", "eager-normal", "traced-normal")
@every_solver
@pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])
def test_against_the_dense_solve(name, wrap):
    matvec, b, adjoint, solution = system()
    got = wrap(lambda b: SOLVERS[name](matvec, b, adjoint))(b)
    np.testing.assert_allclose(got.value, solution, rtol=0, atol=1e-10)
    residual = np.linalg.norm(b - got.value + matvec(got.value), axis=1)
    np.testing.assert_allclose(got.residual, residual, rtol=0, atol=1e-14)
    assert np.all(got.converged)


def test_conjugate_gradients_end_after_as_many_steps_as_dimensions():
    for size in (2, 6, 12):
        matvec, b, adjoint, solution = system(0.7, size, symmetric=True)
        for solver in (solvers.CG(), solvers.Normal()):
            got = solver(matvec, b, adjoint)
            assert np.max(got.num_steps) <= size and np.all(got.converged)
            np.testing.assert_allclose(got.value, solution, rtol=0, atol=1e-11)


def test_rbp_is_neumann_from_zeros():
    matvec, b, *_ = system(0.95)
    for k in (0, 1, 5, 20):
        neumann = solvers.Neumann(num_terms=k)(matvec, b)
        rbp = solvers.FixedPoint(num_steps=k + 1)(matvec, b)
        np.testing.assert_allclose(neumann.value, rbp.value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(neumann.residual, rbp.residual, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_error_of_a_truncated_series():
    """Proposition 3 of Liao et al. in 200 random cases."""
    rng = np.random.RandomState(1)
    tightest = 0.0
    for case in range(200):
        size, k = rng.randint(1, 8), rng.randint(0, 15)
        matvec, b, _, solution = system(rng.uniform(0.1, 0.99), size, seed=case, batch=1)
        m = matvec(np.eye(size)).T
        error = np.linalg.norm(solvers.Neumann(num_terms=k)(matvec, b).value - solution)
        bound = (np.linalg.norm(np.linalg.inv(np.eye(size) - m), 2)
                 * np.linalg.norm(m, 2) ** (k + 1) * np.linalg.norm(b))
        assert error <= bound + 1e-14, (case, error, bound)
        tightest = max(tightest, error / bound)
    assert tightest > 0.9  # so the bound says something


@pytest.mark.parametrize("lipschitz", [0.0, 0.3, 0.9, 0.98])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-9])
def test_number_of_terms_from_the_bound(lipschitz, tolerance):
    k = solvers.num_terms(lipschitz, tolerance)
    assert lipschitz ** (k + 1) / (1 - lipschitz) <= tolerance
    assert k == 0 or lipschitz ** k / (1 - lipschitz) > tolerance
    matvec, b, _, solution = system(lipschitz or 1e-9)
    got = solvers.Neumann(lipschitz=lipschitz, rtol=tolerance, atol=0.0)(matvec, b)
    error = np.linalg.norm(got.value - solution, axis=1)
    assert np.all(got.converged)
    assert np.all(error <= tolerance * np.linalg.norm(got.value, axis=1) / (1 - lipschitz) + 1e-14)
    assert np.max(got.num_steps) <= k + 1


@pytest.mark.fast("neumann", "normal", "bicgstab")
@every_solver
def test_no_influence_of_batchmates(name):
    """The answer of one example, to the bit, whatever the others are."""
    matvec, b, adjoint, _ = system(0.9)
    solver = SOLVERS[name]
    got = solver(matvec, b, adjoint)
    other = b.numpy()
    other[[0, 1, 3, 4]] *= [[1e-3], [1e3], [0.0], [-7.0]]
    again = solver(matvec, tf.constant(other), adjoint)
    np.testing.assert_array_equal(again.value[2], got.value[2])
    assert again.num_steps[2] == got.num_steps[2]


@pytest.mark.fast("1e-12-neumann", "1e-12-normal", "1e-12-bicgstab", "1000000000.0-fixed_point")
@every_solver
@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_a_linear_system_has_no_scale(name, scale):
    """A loss may be a mean over millions: its cotangents are small, their solutions as exact."""
    matvec, b, adjoint, solution = system()
    got = SOLVERS[name](matvec, scale * b, adjoint)
    np.testing.assert_allclose(got.value / scale, solution, rtol=0, atol=1e-9)
    assert np.all(got.converged)
    # A tolerance that was asked for is one of this scale.
    loose = solvers.Neumann(rtol=0.0, atol=0.1 * scale)(matvec, scale * b)
    assert np.all(loose.converged) and np.all(loose.residual > 1e-3 * scale)


def test_the_tolerance_of_normal_equations():
    matvec, b, adjoint, solution = system(size=30)
    got = solvers.Normal(solvers.CG(rtol=1e-3, atol=0.0))(matvec, b, adjoint)
    assert np.all(got.converged) and 1e-6 < np.abs(got.value - solution).max() < 0.1


def test_convergence_does_not_depend_on_batchmates():
    """One that rounding keeps from its tolerance, beside one that takes a hundred steps."""
    def matvec(z):
        return tf.pad(1.02 * z[:, 1:-1], [[0, 0], [2, 0]])

    stalled, long = np.zeros([2, 1, 102], np.float32)
    stalled[0, :2], long[0, 1] = [1, 3e-6], 1
    alone, both = (solvers.Neumann()(matvec, tf.constant(b))
                   for b in (stalled, np.concatenate([stalled, long])))
    assert alone.num_steps[0] < both.num_steps[1] - 10
    for one, other in zip(alone, both):
        np.testing.assert_array_equal(one[0], other[0])


def test_krylov_takes_fewer_products_near_norm_one():
    matvec, b, adjoint, _ = system(0.99, size=30)
    steps = {name: np.mean(SOLVERS[name](matvec, b, adjoint).num_steps)
             for name in ("neumann", "bicgstab")}
    assert 2 * steps["bicgstab"] < steps["neumann"], steps


@pytest.mark.parametrize("terms", [logdet.Geometric(0.4, n_exact=1), logdet.Poisson(3.0)],
                         ids=["geometric", "poisson"])
def test_roulette_is_unbiased(terms):
    matvec, b, _, solution = system(0.5)
    draw = tf.function(lambda: solvers.Roulette(terms)(matvec, b).value, autograph=False)
    draws = np.stack([draw() for _ in range(4000)])
    error = draws.mean(0) - solution
    stderr = draws.std(0, ddof=1) / np.sqrt(len(draws))
    assert np.all(stderr > 0) and np.all(np.abs(error) <= 4 * stderr), (error / stderr)


def test_not_converged_is_said():
    matvec, b, adjoint, _ = system(0.99, size=30)
    for solver in (solvers.Neumann(max_terms=5), solvers.FixedPoint(max_steps=5),
                   solvers.BiCGSTAB(max_steps=2), solvers.Normal(solvers.CG(max_steps=5)),
                   solvers.Neumann(num_terms=5), solvers.CG(num_steps=3)):
        assert not np.any(solver(matvec, b, adjoint).converged), solver
    # A bound that does not hold does not make an answer: ||M|| is 0.99.
    assert not np.any(solvers.Neumann(lipschitz=0.3)(matvec, b).converged)
    diverging = solvers.FixedPoint(start="uniform", max_steps=60)(lambda z: 1.5 * z, b)
    assert not np.any(diverging.converged)


@pytest.mark.slow
def test_one_example_that_is_not_finite():
    """It is not converged and holds nobody up; the others are as they were."""
    matvec, b, adjoint, _ = system()
    bad = b.numpy()
    bad[1, 2], bad[3, 0] = np.nan, np.inf
    for name, solver in SOLVERS.items():
        got, want = (solver(matvec, tf.constant(x), adjoint) for x in (bad, b.numpy()))
        np.testing.assert_array_equal(got.converged, [True, False, True, False, True], name)
        np.testing.assert_array_equal(got.value.numpy()[[0, 2, 4]],
                                      want.value.numpy()[[0, 2, 4]])
        assert np.max(got.num_steps) < 500, name


def test_infinity_is_no_answer():
    b = tf.ones([2, 3])
    for solver in (solvers.Neumann(), solvers.FixedPoint()):
        got = solver(lambda z: 3 * z, b)
        assert not np.any(got.converged) and np.max(got.num_steps) < 200


def test_normal_equations_that_are_too_ill_conditioned_do_not_converge():
    scale = tf.constant([1.0, 1e-7])
    got = solvers.Normal()(lambda z: z - scale * z, tf.ones([1, 2]), lambda z: z - scale * z)
    assert not got.converged[0] and got.residual[0] > 0.5


def test_ridge():
    matvec, b, adjoint, _ = system(0.9)
    a = np.eye(6) - matvec(np.eye(6)).T
    want = np.linalg.solve(a.T @ a + 0.3 * np.eye(6), a.T @ b.numpy().T).T
    got = solvers.Normal(ridge=0.3)(matvec, b, adjoint)
    np.testing.assert_allclose(got.value, want, rtol=0, atol=1e-11)


def test_zeros_are_solved_at_once():
    matvec, b, adjoint, _ = system()
    for name, solver in SOLVERS.items():
        got = solver(matvec, 0 * b, adjoint)
        assert np.all(np.isfinite(got.value)) and np.all(got.converged), name


def test_saving():
    for solver in (*SOLVERS.values(), solvers.Normal(solvers.CG(max_steps=7), ridge=0.1),
                   solvers.Roulette(logdet.Geometric(0.3), seed=1), solvers.Broyden(window=4),
                   solvers.Implicit(solvers.Picard(), solvers.Neumann(num_terms=3)),
                   solvers.Unrolled(4), solvers.Truncated(3),
                   logdet.Neumann()):  # another of that name
        saved = keras.saving.serialize_keras_object(solver)
        assert keras.saving.deserialize_keras_object(saved) == solver


@pytest.mark.parametrize("make, message", [
    (lambda: solvers.Neumann(num_terms=-1), "`num_terms` must be at least 0, a whole number"),
    (lambda: solvers.Neumann(lipschitz=1.0), r"`lipschitz` must be in \[0, 1\)"),
    (lambda: solvers.Neumann(max_terms=0), "`max_terms` must be at least 1"),
    (lambda: solvers.FixedPoint(start="ones"), '`start` must be "zeros" or "uniform"'),
    (lambda: solvers.CG(rtol=-1.0), "`rtol` must not be negative"),
    (lambda: solvers.BiCGSTAB(num_steps=-2), "`num_steps` must be at least 0"),
    (lambda: solvers.CG(max_steps=None), "`max_steps` must be at least 1, a whole number. Rec"),
    (lambda: solvers.Normal(ridge=-1.0), "`ridge` must not be negative"),
    (lambda: solvers.Normal(solvers.Picard()), "`solver` must be a linear solver"),
    (lambda: solvers.Neumann(rtol=float("nan")), "`rtol` must not be negative"),
    (lambda: solvers.Roulette(3), "`terms` must be a `logdet.Geometric`"),
    (lambda: solvers.Normal()(lambda z: z, tf.ones([1, 1])), "`adjoint`, the product with M"),
    (lambda: solvers.num_terms(0.5, 0.0), "`tolerance` must be positive"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
