"""Fixed points of lists and dictionaries: those of one vector that holds all of them."""

import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tfresflow import solvers

METHODS = {"implicit": solvers.Implicit(), "unrolled": solvers.Unrolled(120),
           "truncated": solvers.Truncated(120)}


@pytest.mark.parametrize("method", METHODS)
def test_unknowns_and_arguments_in_structures(method):
    """A dictionary of unequal shapes, arguments beside each other and nested: as one vector."""
    w, x = tf.Variable(0.15 * example([5], 5)), example([5], 4)
    start = {"a": tf.zeros([4, 1, 2], x.dtype), "b": [tf.zeros([4, 3], x.dtype)]}

    def step(h, inputs, scale):
        whole = tf.concat([tf.reshape(h["a"], [-1, 2]), h["b"][0]], 1)
        y = tf.tanh(whole @ w) * scale + inputs["x"]
        return {"a": tf.reshape(y[:, :2], [-1, 1, 2]), "b": [y[:, 2:]]}

    scale = tf.constant(0.7, x.dtype)
    with tf.GradientTape() as tape:
        tape.watch([x, scale])
        h = METHODS[method](step, start, [{"x": x}, scale]).value
        loss = tf.reduce_sum(tf.sin(h["a"])) + tf.reduce_sum(h["b"][0] ** 2)
    got = tape.gradient(loss, [x, scale, w])
    with tf.GradientTape() as tape:
        tape.watch([x, scale])
        one = solvers.Unrolled(150)(lambda h: tf.tanh(h @ w) * scale + x, tf.zeros_like(x)).value
        loss = tf.reduce_sum(tf.sin(one[:, :2])) + tf.reduce_sum(one[:, 2:] ** 2)
    assert h["a"].shape == [4, 1, 2] and h["b"][0].shape == [4, 3]
    np.testing.assert_allclose(tf.concat([h["a"][:, 0], h["b"][0]], 1), one, atol=1e-10)
    for a, b in zip(got, tape.gradient(loss, [x, scale, w])):
        np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("step, start, message", [
    (lambda h: h, [tf.zeros([2, 1]), tf.zeros([2, 1], tf.float64)],
     r"^`x` may be a list or dictionary of tensors \[N, ...\], but these must all be of one dtype "
     r"and one N, and of known sizes but for N. Received: float32 \(2, 1\), float64 \(2, 1\)$"),
    (lambda h: h, [tf.zeros([2, 1]), tf.zeros([3, 1])], "but these must all be of .* one N"),
    (lambda h: h, [tf.zeros([2, 1]), tf.zeros([])],
     r"`x` must be a tensor of floats \[N, ...\]. Received: float32 \(\)"),
    (lambda h: h, [np.zeros([2, 1], int)], "`x` must be a tensor of floats .* Received: int64"),
    (lambda h: [tf.reshape(h[0], [2, 3])], [tf.zeros([3, 2])],
     r"`x` must have the shape .* Received: float32 \(3, 2\) -> float32 \(2, 3\)"),
    (lambda h: [tf.cast(h[0], tf.float64)], [tf.zeros([3, 2])], "Received: .* -> float64 "),
    (lambda h: h[0], [tf.zeros([2, 1])], "`function` must return the structure of `x`"),
])
def test_what_does_not_fit(step, start, message):
    for method in METHODS.values():
        with pytest.raises(ValueError, match=message) as caught:
            method(step, start)
        assert "\n" not in str(caught.value)
