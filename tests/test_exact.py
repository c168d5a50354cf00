"""The exact log-determinant: the whole Jacobian beside g, and the step that has it at hand."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import InvertibleResidual
from tests.registry import branch, example
from tfresflow import layers, logdet, seeds, solvers
from tfresflow.functions.branch import At, functionalize
from tfresflow.functions.jacobian import whole
from tfresflow.functions.steps import Rows

FLOAT64 = {"dtype": "float64"}


def dense(units, **kwargs):
    return layers.InducedNormDense(units, 0.8, **FLOAT64, **kwargs)


def opaque(units):
    return keras.layers.Dense(units, "tanh", **FLOAT64)


def concatenation():
    return keras.Sequential([layers.LipschitzConcatenation(
        keras.Sequential([dense(4), layers.CLipSwish(**FLOAT64)]), **FLOAT64), dense(3)])


BRANCHES = {
    "dense": lambda: branch([3]), "sorted": lambda: branch([3], act=layers.MaxMin),
    "both signs": lambda: branch([3], act=layers.CPila),
    "sine": lambda: branch([3], act=layers.Sin),
    "activation inside": lambda: keras.Sequential([dense(8, activation="tanh"), dense(3)]),
    "linear": lambda: keras.Sequential([dense(3)]), "concatenation": concatenation,
    "nested": lambda: keras.Sequential([branch([3]), layers.Sin(**FLOAT64)]),
    "Keras": lambda: keras.Sequential([opaque(8), opaque(3)]),
    "conv": lambda: branch([4, 4, 2]),
    "context": lambda: keras.Sequential([dense(8), layers.FiLM(2, gates=True, **FLOAT64),
                                         layers.LipSwish(**FLOAT64), dense(3)])}


def made(name):
    """`(g, weights, x)`, the context among the weights."""
    g, x = BRANCHES[name](), example([4, 4, 2] if name == "conv" else [3], 5)
    if not g.built:
        g.build((None, *x.shape[1:]))
    return *functionalize(At(g, example([2], 5, seed=3)) if name == "context" else g), x


@pytest.mark.fast("dense", "sorted", "nested", "conv", "context")
@pytest.mark.parametrize("name", BRANCHES)
def test_the_whole_jacobian_is_that_of_a_tape(name):
    """And its derivatives, where it is traced with batches of unknown size, too."""
    g, weights, x = made(name)
    size = x.shape[1:].num_elements()
    with tf.GradientTape() as outer:
        outer.watch([x, *weights])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = g(weights, x)
        want = tf.reshape(tape.batch_jacobian(y, x), [-1, size, size])
        loss = tf.reduce_sum(want ** 3)
    derivatives = outer.gradient(loss, [x, *weights], unconnected_gradients="zero")

    def cubed(x):
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y, matrix = whole(g, weights, x)
            loss = tf.reduce_sum(matrix ** 3)
        return y, matrix, *tape.gradient(loss, [x, *weights], unconnected_gradients="zero")

    unknown = tf.function(cubed, [tf.TensorSpec([None, *x.shape[1:]], x.dtype)], autograph=False)
    for found in (cubed(x), unknown(x)):
        for got, right in zip(found, [y, want, *derivatives], strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("layers_of", [
    lambda: [dense(8), layers.KerasActivation("softsign", **FLOAT64), dense(3)],
    lambda: [dense(8, activation="softsign"), dense(3)],
    lambda: [keras.layers.Dense(8, "softsign", **FLOAT64), dense(3)]])
def test_what_has_no_second_derivative_has_a_jacobian(layers_of):
    """TensorFlow knows none of softsign."""
    g, x = keras.Sequential(layers_of()), example([3], 5)
    g.build(x.shape)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = g(x)
    found = whole(*functionalize(g), x)
    for got, want in zip(found, (y, tape.batch_jacobian(y, x))):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name, size", [("dense", 5), ("conv", 5), ("context", None)])
@pytest.mark.parametrize("adjoint", [None, pytest.param(
    solvers.BiCGSTAB(rtol=1e-14, atol=1e-14), marks=pytest.mark.slow)])
def test_a_step_is_that_of_a_tape(name, size, adjoint):
    """`vjp` and `vijp`, in one chunk and in several, beside those of any estimator."""
    g, x = BRANCHES[name](), example([4, 4, 2] if name == "conv" else [3], 5)
    block = InvertibleResidual(g, x.shape[1:], logdet.Exact(), adjoint=adjoint,
                               solver=solvers.Picard(rtol=1e-15, atol=1e-15))
    variables = [v.value for v in g.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        step = block.bind(0, size, x.dtype)
    plain = logdet.Estimator.bind(logdet.Exact(), g, seeds.as_seed(0), None, step.inverse, None)
    state, dz = (x, example([2], 5, seed=3)), (tf.sin(x), example([2], 5, seed=4))
    if name != "context":
        state, dz = state[0], dz[0]
    d = tf.linspace(tf.constant(-1.0, x.dtype), 2.0, 5)
    for method in ("vjp", "vijp"):
        *want, dweights = getattr(plain, method)(state, Rows(tf.range(5)), dz, d)
        want = tf.nest.flatten([want, dweights])
        for chunk_bytes in (None, 400):
            rows = Rows(tf.range(5), chunk_bytes=chunk_bytes)
            *got, dweights = getattr(step, method)(state, rows, dz, d)
            dweights = tape.gradient(step.weights, variables, dweights)
            for one, other in zip(tf.nest.flatten([got, dweights]), want, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11, err_msg=method)


def test_the_matrix_at_hand_is_eliminated():
    """Unless another solver was chosen, and not for inverses, which have none."""
    def solver_of(block):
        return block.bind(0, 2, "float64").adjoint.solver

    chosen = solvers.Neumann()
    block = InvertibleResidual(branch([3]), [3], logdet.Exact())
    assert solver_of(block) == solvers.Direct() and block.adjoint == solvers.BiCGSTAB()
    assert solver_of(block.with_log_det(logdet.LogDet())) == solvers.BiCGSTAB()
    of_other = InvertibleResidual(branch([3]), [3], logdet.Exact(), adjoint=chosen)
    assert solver_of(of_other) == solver_of(of_other.with_log_det(logdet.Exact())) == chosen


def test_a_branch_that_cannot_be_undone_is_an_error():
    """x - x is singular."""
    g = layers.InducedNormDense(3, 0.99, kernel_initializer=keras.initializers.Identity(-0.5),
                                use_bias=False, **FLOAT64)
    step = InvertibleResidual(g, [3], logdet.Exact()).bind(0, 1, tf.float64)
    singular = dataclasses.replace(step, weights=[-tf.eye(3, dtype=tf.float64)])
    one = tf.ones([1, 3], tf.float64)
    with pytest.raises(tf.errors.InvalidArgumentError):
        singular.vijp(one, Rows(tf.range(1)), one, one[:, 0])
