"""What solvers are given: a function of one tensor and where it starts, or one line."""

import numpy as np
import pytest
import tensorflow as tf

from tfresflow import logdet, solvers

FIXED_POINT = {"picard": solvers.Picard(), "anderson": solvers.Anderson(),
               "broyden": solvers.Broyden(), "implicit": solvers.Implicit(),
               "unrolled": solvers.Unrolled(60), "truncated": solvers.Truncated(2)}
LINEAR = {"neumann": solvers.Neumann(), "fixed_point": solvers.FixedPoint(), "cg": solvers.CG(),
          "bicgstab": solvers.BiCGSTAB(), "normal": solvers.Normal(),
          "roulette": solvers.Roulette(logdet.Truncated(60))}
ALL = {**FIXED_POINT, **LINEAR}
ways = pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "traced"])


def half(h):
    return 0.5 * h


def call(name, function, x):
    """A solver's call, and what its two arguments are named."""
    if name in FIXED_POINT:
        return FIXED_POINT[name](function, x)
    return LINEAR[name](function, x, half)


WRONG = {
    "integers": (half, np.ones([3, 2], int), "`{x}` must be a tensor of floats [N, ...]. Received: "
                 "int64 (3, 2)"),
    "complex": (half, np.ones([3, 2], complex), "`{x}` must be a tensor of floats [N, ...]. "
                "Received: complex128 (3, 2)"),
    "a number": (half, np.float64(3.0), "`{x}` must be a tensor of floats [N, ...]. Received: "
                 "float64 ()"),
    "none": (half, None, "`{x}` must be a tensor of floats [N, ...]. Received: NoneType"),
    "text": (half, "a", "`{x}` must be a tensor of floats [N, ...]. Received: string ()"),
    "another dtype": (lambda h: tf.cast(h, tf.float32), np.ones([3, 2]), "`{x}` must have the "
                      "shape and dtype of `{f}({x})`. Received: float64 (3, 2) -> float32 (3, 2)"),
    "another shape": (lambda h: tf.concat([h, h], 1), np.ones([3, 2]), "`{x}` must have the shape "
                      "and dtype of `{f}({x})`. Received: float64 (3, 2) -> float64 (3, 4)"),
    "no value": (lambda h: None, np.ones([3, 2]), "`{x}` must have the shape and dtype of "
                 "`{f}({x})`. Received: float64 (3, 2) -> NoneType"),
    "swapped": (tf.ones([3, 2]), np.ones([3, 2]), "`{f}` must be a function, and come before "
                "`{x}`. Received: {f}=EagerTensor of shape (3, 2)"),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("name", ALL)
def test_what_cannot_be_solved_is_named(name, what):
    function, x, message = WRONG[what]
    f, x_name = ("function", "x") if name in FIXED_POINT else ("matvec", "b")
    with pytest.raises(ValueError) as caught:
        call(name, function, x)
    assert str(caught.value) == message.format(f=f, x=x_name)


@pytest.mark.parametrize("name", FIXED_POINT)
def test_arguments_in_the_wrong_order(name):
    with pytest.raises(ValueError, match="^`(x|function)` must .*") as caught:
        FIXED_POINT[name](tf.ones([3, 2]), half)
    assert "\n" not in str(caught.value)


@pytest.mark.fast("anderson-traced", "bicgstab-traced", *(f"{name}-eager" for name in ALL))
@ways
@pytest.mark.parametrize("name", ALL)
def test_arrays_are_as_tensors(name, wrap):
    """Of NumPy, with a function that returns such where it can: to the tolerance of its dtype."""
    function = half if name in LINEAR else lambda h: 0.5 * h + 1
    for dtype in ("float64", "float32"):
        x = np.ones([3, 2], dtype)
        value = wrap(lambda: call(name, function, x).value)()
        assert value.dtype == dtype
        np.testing.assert_allclose(value, 2 * x, rtol=1e-10 if dtype == "float64" else 1e-5)


def test_another_dtype_is_named_in_a_graph():
    for name in ALL:
        traced = tf.function(lambda: call(name, lambda h: tf.cast(h, "float32"), np.ones([3, 2])))
        with pytest.raises(ValueError, match="must have the shape and dtype of .* -> float32"):
            traced()


@pytest.mark.parametrize("name", ["implicit", "unrolled", "truncated"])
def test_args_are_a_list_of_arguments(name):
    """The rows of a tensor would be taken for as many arguments."""
    for args in (tf.ones([3, 2]), {"w": tf.ones([])}, 2.0):
        with pytest.raises(ValueError, match="^`args` must be a list or tuple"):
            FIXED_POINT[name](lambda h, *w: half(h), np.ones([3, 2]), args)
    value = FIXED_POINT[name](lambda h, w: half(h) + w, np.ones([3, 2]), [tf.ones([], "float64")])
    np.testing.assert_allclose(value.value, 2.0, rtol=1e-9)


def test_an_adjoint_is_a_function_that_keeps_the_shape():
    with pytest.raises(ValueError, match="^`adjoint` must be a function, and come before `b`"):
        solvers.Normal()(half, np.ones([3, 2]), 3)
    with pytest.raises(ValueError, match=r"^`b` must have the shape and dtype of `adjoint\(b\)`"):
        solvers.Normal()(half, np.ones([3, 2]), lambda z: z[:1])
