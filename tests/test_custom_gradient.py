"""Custom gradients: those of TensorFlow, which keep no graph alive."""

import gc
import re
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from tests.command import ROOT
from tfresflow.functions.custom_gradient import custom_gradient


@custom_gradient
def _cube(x):
    """Whose gradient is told to be 7 times what it is."""
    return [x ** 3, 2 * x], lambda d, e: 7 * (3 * x ** 2 * d + 2 * e)


def _plainly(x):
    return tf.add_n(_cube(x))


def _in_a_loop(x):
    return tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, tf.add_n(_cube(x))), [0, x])[1]


def _in_a_function(x):
    return tf.function(_plainly, autograph=False)(x)


def _registered():
    return {name for name in ops.gradient_registry._registry if name.startswith("CustomGradient")}


def _gradient(function, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


@pytest.mark.parametrize("function", [_plainly, _in_a_loop, _in_a_function])
def test_what_is_registered_goes_with_its_graph(function):
    """From outside and from inside of a graph; while it is there, and not any longer."""
    gc.collect()
    before, x = _registered(), tf.constant([0.5, 0.75])
    want = _gradient(function, x)  # eager
    traced = tf.function(function, autograph=False)
    within = tf.function(lambda x: _gradient(function, x), autograph=False)
    for _ in range(2):
        np.testing.assert_allclose(_gradient(traced, x), want, rtol=1e-6)
        np.testing.assert_allclose(within(x), want, rtol=1e-6)
        gc.collect()
    assert np.all(np.asarray(want) > 7 * (3 * x ** 2 + 2) - 1e-4)
    assert len(_registered() - before) >= 2
    graphs = [weakref.ref(f.get_concrete_function(x).graph) for f in (traced, within)]
    del traced, within
    gc.collect()
    assert _registered() <= before and not any(graph() for graph in graphs)


def test_no_other_is_used():
    """Of the product; `tf.custom_gradient` keeps what it is called with for ever."""
    files = [path for folder in ("tfresflow", "bijectors", "train")
             for path in (ROOT / folder).rglob("*.py")]
    using = [path.name for path in files
             if re.search(r"(?<!`)tf\.custom_gradient\b", path.read_text())]
    assert len(files) > 100 and using == ["custom_gradient.py"]
