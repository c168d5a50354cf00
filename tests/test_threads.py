"""Two halves side by side: the same numbers, and threads are set only where nobody chose."""

import os
import platform
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import InvertibleResidual
from tests.command import ROOT
from tests.registry import branch, example
from tests.test_logdet import flat, value_and_gradients
from tfresflow import logdet
from tfresflow.batches import parts, threads
from tfresflow.functions.branch import norm_layers, update_norms

THREADS = "TF_NUM_INTRAOP_THREADS"


def results():
    """Estimates, their gradients and an inverse, of a convolution and a dense branch."""
    arrays = []
    keras.utils.set_random_seed(0)  # of the process that is fresh, too
    for shape in ([4, 4, 2], [3]):
        net, x = branch(shape), example(shape, 7)
        net.build((None, *shape))
        for i, weight in enumerate(net.trainable_variables):
            weight.assign(0.3 * np.random.RandomState(i).randn(*weight.shape))
        update_norms(norm_layers([net]))
        estimator = logdet.LogDet(logdet.Truncated(4), memory=logdet.Recompute())
        arrays.append(flat(*value_and_gradients(estimator, net, x, 3)))
        arrays.append(np.ravel(InvertibleResidual(net, shape).inverse_alone(x)))
    return np.concatenate(arrays)


def in_fresh_process(code, env=()):
    env = {**{k: v for k, v in os.environ.items() if k != THREADS}, **dict(env)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are what it is for")
def test_halves_are_the_whole():
    """An odd batch, values and gradients, in float64."""
    code = """if True:
        import os
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
        from tfresflow.batches import parts, threads
        threads.prepare()
        from tests.test_threads import results
        values = results()
        assert threads.are_prepared()
        print(*map(repr, values.tolist()))"""
    got, want = np.array(in_fresh_process(code), float), results()
    assert not threads.are_prepared() and np.abs(want).max() > 0.1
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_threads_that_were_chosen_stay():
    """By the environment, then by TensorFlow's having begun; by the user's own call."""
    code = """if True:
        import os
        import tensorflow as tf
        from tfresflow.batches import parts, threads

        def prepared():
            threads.prepare()
            print(tf.config.threading.get_intra_op_parallelism_threads(), threads.are_prepared())

        """
    begun = f"prepared(); del os.environ[{THREADS!r}]; tf.constant(1.0) + 1.0; prepared()"
    assert in_fresh_process(code + begun, {THREADS: "2"}) == ["0", "False", "0", "False"]
    chosen = "tf.config.threading.set_intra_op_parallelism_threads(3); prepared()"
    assert in_fresh_process(code + chosen) == ["3", "False"]


@pytest.mark.parametrize("size", [1, 2, 7, None])
def test_side_by_side(size):
    x = tf.constant(np.arange(7.0 if size is None else float(size))[:, np.newaxis])

    def function(x):
        return [x ** 3], [tf.reduce_sum(x ** 2)]

    @tf.function(input_signature=[tf.TensorSpec([size, 1], tf.float64)])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            [cubes], [total] = parts.side_by_side(function)(x)
            loss = tf.reduce_sum(x * cubes) + 5 * total
        return cubes, total, tape.gradient(loss, x)

    cubes, total, gradient = run(x)
    np.testing.assert_allclose(cubes, x ** 3, rtol=1e-15)
    np.testing.assert_allclose(total, tf.reduce_sum(x ** 2), rtol=1e-15)
    np.testing.assert_allclose(gradient, 4 * x ** 3 + 10 * x, rtol=1e-15)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere oneDNN is another library")
def test_a_processor_for_which_onednn_is_left_off_is_told():
    code = """if True:
        import os, warnings
        import tensorflow as tf
        from tensorflow.python.util import _pywrap_util_port
        from tfresflow.batches import parts, threads

        def prepared():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                threads.prepare()
            print(_pywrap_util_port.IsMklEnabled(), [str(w.message)[:33] for w in caught])

        prepared()
        """
    flag = "TF_ENABLE_ONEDNN_OPTS"
    assert in_fresh_process(code, {flag: "1"}) == ["True", "[]"]
    nobody_asked = f"del os.environ['{flag}']; prepared()"
    said = " ".join(in_fresh_process(code + nobody_asked, {flag: "0"}))
    assert said == "False [] False ['TensorFlow has left oneDNN off on']"


def test_train_switches_onednn_on_unless_told_otherwise():
    code = "import os; from train import environment; environment.prepare(); print(os.environ[%r])"
    flag = "TF_ENABLE_ONEDNN_OPTS"
    assert in_fresh_process(code % flag, {flag: "0"}) == ["0"]
    unset = f"import os; del os.environ[{flag!r}]; "
    assert in_fresh_process(unset + code % flag, {flag: "0"}) == ["1"]
