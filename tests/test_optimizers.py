"""Adam: its formula, and the numbers of Keras's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfresflow.training import optimizers

FACTORS = (1.0, -0.4, 2.0, 0.3)


def trained(kind, dtype, traced=True, **options):
    """Three variables and what the optimizer keeps, after four steps."""
    variables = [keras.Variable(np.random.RandomState(i).randn(3, 2), dtype=dtype)
                 for i in range(3)]
    optimizer = kind(0.125, **options)
    optimizer.build(variables)

    def step(factor):
        optimizer.apply([factor * tf.sin(3 * v.value) for v in variables], variables)

    step = tf.function(step, autograph=False) if traced else step
    for factor in FACTORS:
        step(tf.constant(factor, dtype))
    return [v.numpy() for v in variables + optimizer.variables]


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "eager"])
def test_formula(traced):
    """Kingma and Ba (2015), section 2, the bias corrections in the step size."""
    got = trained(optimizers.Adam, "float64", traced, beta_1=0.8, beta_2=0.95, epsilon=1e-3)
    for i in range(3):
        w, m, v = np.random.RandomState(i).randn(3, 2), 0, 0
        for t, factor in enumerate(FACTORS, 1):
            g = factor * np.sin(3 * w)
            m, v = 0.8 * m + 0.2 * g, 0.95 * v + 0.05 * g ** 2
            rate = 0.125 * np.sqrt(1 - 0.95 ** t) / (1 - 0.8 ** t)
            w = w - rate * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(got[i], w, rtol=1e-12)


@pytest.mark.fast(but=["traced-options0", "traced-options1", "traced-options2", "traced-options3",
                       "traced-options4"])
@pytest.mark.parametrize("options", [
    {}, {"beta_2": 0.99}, {"amsgrad": True}, {"weight_decay": 0.1},
    {"global_clipnorm": 0.3, "use_ema": True}, {"gradient_accumulation_steps": 2}])
@pytest.mark.parametrize("traced", [True, False], ids=["traced", "eager"])
def test_steps_are_those_of_keras(options, traced):
    """To the float32 rounding of `1 - beta_2`: 5e-5 of beta_2 = 0.999."""
    ours = trained(optimizers.Adam, "float32", traced, **options)
    theirs = trained(keras.optimizers.Adam, "float32", traced, **options)
    assert len(ours) == len(theirs)
    for got, want in zip(ours, theirs):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_saves_and_restores():
    optimizer = optimizers.Adam(0.3, beta_2=0.9, global_clipnorm=2.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(again) is optimizers.Adam and again.get_config() == optimizer.get_config()


def test_a_step_is_an_operation_a_variable():
    variables = [keras.Variable(tf.ones([3])) for _ in range(20)]
    optimizer = optimizers.Adam()
    optimizer.build(variables)
    step = tf.function(lambda: optimizer.apply([tf.ones([3])] * 20), autograph=False)
    kinds = [node.op for node in step.get_concrete_function().graph.as_graph_def().node]
    assert kinds.count("ResourceApplyAdam") == 20 and kinds.count("Sqrt") == 0
    assert kinds.count("Pow") == 2  # of beta, once for all
