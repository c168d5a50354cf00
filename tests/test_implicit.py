"""Gradients of fixed points: against back-propagation through every step, in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.allocator import peaks
from tests.registry import branch, example
from tfresflow import solvers

PRECISE = solvers.Anderson(rtol=1e-15, atol=1e-15, max_steps=60)
EXACT = {"bicgstab": solvers.BiCGSTAB(), "neumann": solvers.Neumann(),
         "normal": solvers.Normal(), "fixed_point": solvers.FixedPoint()}
ways = pytest.mark.parametrize("wrap", [tf.function, lambda f: f], ids=["traced", "eager"])


class Cell:
    """`h -> tanh(h W + x U + b)`, using a variable, a Keras layer and a tensor made of another."""

    def __init__(self, norm=0.8, size=4):
        rng = np.random.RandomState(0)
        w = rng.randn(size, size)
        self.w = tf.Variable(norm * w / np.linalg.norm(w, 2))
        self.dense = keras.layers.Dense(size, dtype="float64")
        self.dense.build((None, 3))
        self.scale = tf.Variable(rng.randn(size))
        self.x = tf.constant(rng.randn(5, 3))
        self.start = tf.zeros([5, size], tf.float64)
        self.cotangent = tf.constant(rng.randn(5, size))
        self.sources = [self.x, self.w, self.scale, *(v.value for v in self.dense.weights)]

    def root(self, method):
        shift = tf.sin(self.scale)  # a tensor, which F captures
        return method(lambda h: tf.tanh(h @ self.w + self.dense(self.x) + shift), self.start)

    def gradients(self, method, order=1):
        """`(h, gradients, gradients of the sum of their sines)`."""
        with tf.GradientTape() as outer:
            outer.watch(self.x)
            with tf.GradientTape() as tape:
                tape.watch(self.x)
                h = self.root(method).value
                loss = tf.reduce_sum(self.cotangent * h ** 2)
            first = tape.gradient(loss, self.sources)
            total = sum(tf.reduce_sum(tf.sin(d)) for d in first)
        return h, first, outer.gradient(total, self.sources) if order == 2 else []


def largest_difference(got, want):
    return max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(got, want, strict=True))


@pytest.fixture(scope="module")
def cell():
    return Cell()


@pytest.fixture(scope="module")
def unrolled(cell):
    return tf.function(lambda: cell.gradients(solvers.Unrolled(200), 2))()


@pytest.mark.fast("bicgstab-eager")
@ways
@pytest.mark.parametrize("adjoint", EXACT)
def test_gradients_and_their_gradients(cell, unrolled, adjoint, wrap):
    method = solvers.Implicit(PRECISE, EXACT[adjoint], on_failure="ignore")
    h, first, second = wrap(lambda: cell.gradients(method, 2))()
    np.testing.assert_allclose(h, unrolled[0], rtol=0, atol=1e-13)
    assert largest_difference(first, unrolled[1]) < 1e-10
    assert largest_difference(second, unrolled[2]) < 1e-9
    assert min(float(tf.reduce_max(tf.abs(d))) for d in (*first, *second)) > 1e-3


@pytest.mark.slow
def test_truncated_back_propagation_is_neumann(cell):
    for k in (1, 5):
        truncated, neumann, rbp = (tf.function(lambda: cell.gradients(method))()[1] for method in (
            solvers.Truncated(k + 1, PRECISE, on_failure="ignore"),
            solvers.Implicit(PRECISE, solvers.Neumann(num_terms=k), on_failure="ignore"),
            solvers.Implicit(PRECISE, solvers.FixedPoint(num_steps=k + 1), on_failure="ignore")))
        assert largest_difference(truncated, neumann) < 1e-12
        assert largest_difference(rbp, neumann) < 1e-12


def test_an_unstable_fixed_point_has_a_gradient(cell):
    """`h = h^2 - x` is no contraction at its larger root; the equation is differentiated."""
    x = tf.constant([[2.0], [6.0]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        h = solvers.Implicit(solvers.Picard(), solvers.Normal())(
            lambda h: tf.sqrt(h + x), tf.ones_like(x)).value
    np.testing.assert_allclose(h[:, 0], [2.0, 3.0], atol=1e-11)
    np.testing.assert_allclose(tape.gradient(h, x)[:, 0], 1 / (2 * h[:, 0] - 1), atol=1e-10)


@pytest.mark.fast("eager")
@ways
def test_failures_are_reported(cell, wrap, capfd):
    bad_value = solvers.Implicit(solvers.Picard(max_steps=3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="A fixed point did not converge") as e:
        wrap(lambda: cell.gradients(bad_value))()
    assert "the map is no contraction; too few steps (the solver" in str(e.value)
    assert "s `max_steps`);" in str(e.value)  # a graph escapes the apostrophe between them
    causes = str(e.value).split("Likely causes")[1].split("Examples")[0]
    assert "norm" not in causes  # F need not have any
    good = solvers.Implicit(solvers.Anderson(), solvers.Neumann(max_terms=3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="adjoint solve of a fixed point did .*"
                       "`I - dF/dh` is not inv.*`max_steps` or `max_terms`"):
        wrap(lambda: cell.gradients(good))()
    warned = solvers.Implicit(solvers.Picard(max_steps=3), solvers.Neumann(max_terms=3), "warn")
    wrap(lambda: cell.gradients(warned))()
    said = capfd.readouterr().err
    assert "A fixed point did not converge. Examples not converged, largest residual: 5" in said
    assert "warning: The adjoint solve" in said
    quiet = solvers.Implicit(solvers.Picard(max_steps=3), on_failure="ignore")
    wrap(lambda: cell.gradients(quiet))()
    assert "did not converge" not in capfd.readouterr().err


@pytest.mark.fast("while_loop")
@pytest.mark.parametrize("loop", ["map_fn", "while_loop", "cond"])
def test_in_loops_what_is_used_must_be_given(cell, loop):
    """Where a closure's gradient would be lost, an error says what to do; given, it is right."""
    root = solvers.Implicit(on_failure="raise")

    def solve(args):
        def step(h, *given):
            w, x = given or (cell.w.value(), cell.x)
            return tf.tanh(h @ w + tf.reduce_sum(x))

        def once(_):
            return root(step, cell.start, args).value

        if loop == "map_fn":
            return tf.map_fn(once, tf.zeros([2], tf.float64))[1]
        if loop == "cond":
            return tf.cond(tf.reduce_sum(cell.x) < 1e9, lambda: once(0), lambda: cell.start)
        return tf.while_loop(lambda k, h: k < 2, lambda k, h: (k + 1, once(0)),
                             (0, cell.start), maximum_iterations=2)[1]

    if loop != "map_fn":  # which does not clean up after an error
        with pytest.raises(ValueError, match="`args` must be all that `function` uses"):
            tf.function(lambda: solve(()))()

    @tf.function
    def gradients(inside):
        with tf.GradientTape() as tape:
            tape.watch(cell.x)
            args = (tf.identity(cell.w), tf.identity(cell.x))
            h = solve(args) if inside else root(
                lambda h: tf.tanh(h @ args[0] + tf.reduce_sum(args[1])), cell.start).value
        return tape.gradient(h, [cell.w, cell.x])

    assert largest_difference(gradients(True), gradients(False)) < 1e-10


def test_sparse_cotangents_and_complex_sources(cell):
    c = tf.constant([1.0 + 0.5j], tf.complex128)

    def slopes(root):
        with tf.GradientTape() as tape:
            tape.watch([cell.x, c])
            h = root(lambda h: tf.tanh(h @ cell.w) * tf.math.imag(c) + 1, cell.start)
            loss = tf.reduce_sum(tf.gather(h.value, [1, 1, 3]))
        of_w, of_c = tape.gradient(loss, [cell.w, c])
        return [of_w, tf.math.real(of_c), tf.math.imag(of_c)]

    got, want = slopes(solvers.Implicit(PRECISE)), slopes(solvers.Unrolled(200))
    assert largest_difference(got, want) < 1e-10
    assert min(float(tf.reduce_max(tf.abs(d))) for d in (want[0], want[2])) > 0.1


@pytest.mark.fast("Normal")
@pytest.mark.parametrize("adjoint", [solvers.BiCGSTAB(), solvers.Neumann(), solvers.FixedPoint(),
                                     solvers.Normal()], ids=lambda a: type(a).__name__)
def test_adjoints_in_single_precision(adjoint):
    """Orthogonal layers, on which recurrences drift: converged, and right."""
    for size in (32, 128):
        for seed in range(3):
            rng = np.random.RandomState(seed)
            q = tf.constant(0.95 * np.linalg.qr(rng.randn(size, size))[0], tf.float32)
            b = tf.constant(rng.randn(64, size), tf.float32)
            got = adjoint(lambda z: z @ q, b, lambda z: z @ tf.transpose(q))
            want = np.linalg.solve(np.eye(size) - q.numpy().astype(float).T, b.numpy().T).T
            assert np.all(got.converged), np.max(got.residual)
            np.testing.assert_allclose(got.value, want, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.allocator
def test_memory_does_not_grow_with_the_steps():
    """Peak of the allocator, of a sampling gradient of ten steps and of two hundred."""
    g = branch([16, 16, 4], hidden=32)
    z = example([16, 16, 4], 16)
    sources = [z, *(v.value for v in g.trainable_variables)]

    def peak(method):
        @tf.function
        def step():
            with tf.GradientTape() as tape:
                tape.watch(z)
                x = method(lambda x: z - g(x), z).value
                loss = tf.reduce_sum(x ** 2)
            return tape.gradient(loss, sources)

        return max(peaks(step))

    def implicit(count):
        return solvers.Implicit(solvers.Picard(rtol=0.0, atol=0.0, max_steps=count),
                                solvers.Neumann(num_terms=count), on_failure="ignore")

    few, many = peak(implicit(10)), peak(implicit(200))
    # Which operations run at the same time is chance; one activation a step would be eight times.
    assert many < 1.1 * few, (few, many)
    assert peak(solvers.Unrolled(200)) > 20 * many


def test_under_a_strategy(mirrored):
    with mirrored.scope():
        w = tf.Variable([[0.5]], dtype=tf.float64)

    @tf.function
    def step():
        def replica():
            shift = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, w.dtype)
            with tf.GradientTape() as tape:
                h = solvers.Implicit()(lambda h: tf.cos(h @ w + shift),
                                       tf.zeros([1, 1], tf.float64)).value
            return h, tape.gradient(h, w)

        return mirrored.run(replica)

    for i, (h, slope) in enumerate(zip(*map(mirrored.experimental_local_results, step()))):
        h, sine = float(h[0, 0]), np.sin(0.5 * h[0, 0] + i)
        np.testing.assert_allclose(slope[0, 0], -h * sine / (1 + 0.5 * sine), rtol=1e-9)


@pytest.mark.parametrize("make, message", [
    (lambda: solvers.Implicit(on_failure="hush"), "`on_failure` must be one of"),
    (lambda: solvers.Truncated(2, on_failure="hush"), "`on_failure` must be one of"),
    (lambda: solvers.Unrolled(0), "`num_steps` must be at least 1, a whole number. Rec"),
    (lambda: solvers.Implicit(solvers.Neumann()), "`solver` must be a fixed-point solver"),
    (lambda: solvers.Implicit(adjoint=solvers.Picard()), "`adjoint` must be a linear solver"),
    (lambda: solvers.Truncated(0), "`num_steps` must be at least 1, a whole number. Rec"),
])
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
