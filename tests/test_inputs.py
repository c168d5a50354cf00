"""What flows are given as x and z: whatever holds numbers is taken, all else is refused by name."""

import numpy as np
import pandas
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import build, every_flow, example, shared
from tfresflow import autodiff

tfb, tfd = tfp.bijectors, tfp.distributions

FORWARD = {"forward": lambda flow, x: flow.forward(x),
           "forward_and_log_det": lambda flow, x: flow.forward_and_log_det(x, seed=0),
           "forward_log_det_jacobian": lambda flow, x: flow.forward_log_det_jacobian(x),
           "autodiff": lambda flow, x: autodiff.gradients(flow, lambda z, log_det: z, x, 0)[::2],
           "initialize": lambda flow, x: flow.initialize(x),
           "find_nonfinite": lambda flow, x: flow.find_nonfinite(x, 0) or 0.0}
INVERSE = {"inverse": lambda flow, z: flow.inverse(z),
           "inverse_and_log_det": lambda flow, z: flow.inverse_and_log_det(z, seed=0),
           "inverse_log_det_jacobian": lambda flow, z: flow.inverse_log_det_jacobian(z),
           "inverse_alone": lambda flow, z: flow.inverse_alone(z)}
METHODS = {**FORWARD, **INVERSE}


def close(got, want):
    for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(want)):
        assert tf.as_dtype(np.asarray(a).dtype) == tf.as_dtype(np.asarray(b).dtype)
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def check_refused(flow, x):
    z = tf.zeros([3, *flow.latent_shape(flow.event_shape)], tf.float64)
    for method, call in METHODS.items():
        argument, given = ("z", z) if method in INVERSE else ("x", x)
        wrong = [tf.concat([given, given], -1), given.numpy()[..., :1, :1][..., 0, 0],
                 given.numpy().astype(str), given.numpy().astype(complex), [[1.0], [1.0, 2.0]],
                 [["a"]], [[1j]], None, {"a": 1.0}, tf.RaggedTensor.from_tensor(given)]
        for bad in wrong:
            with pytest.raises(ValueError, match=f"^`{argument}` must be "):
                call(flow, bad)


def check_refused_when_traced(flow, x):
    wrong = [(call, [None, *x.shape[1:-1], x.shape[-1] + 1])
             for call in (flow.forward, flow.forward_and_log_det)]
    for call, shape in [*wrong, (flow.forward_and_log_det, [None]), (flow.forward, None)]:
        traced = tf.function(call, autograph=False,
                             input_signature=[tf.TensorSpec(shape, tf.float64)])
        with pytest.raises(ValueError, match="`x` must be "):
            traced.get_concrete_function()


@every_flow
def test_whatever_holds_numbers_is_taken_and_nothing_else(name):
    """As the float64 tensor that it is the same as. Zeros and ones are exact in every dtype."""
    flow, x = shared(name)
    x = tf.cast(x > 0.4, tf.float64)
    kinds = [x.numpy(), tf.Variable(x)]
    if flow.layers:  # without weights, there is no dtype to cast to
        kinds += [x.numpy().tolist(), x.numpy().astype("uint8"), x.numpy().astype("float32")]
    for kind in kinds:
        close(flow._take("x", kind), x)  # before whatever a subclass says, see below
    check_refused(flow, x)
    check_refused_when_traced(flow, x)


@pytest.mark.fast("toy_flow-forward", "FactorOut-forward", "FactorOut-forward_and_log_det",
                  "FactorOut-forward_log_det_jacobian", "FactorOut-autodiff",
                  "FactorOut-initialize", "FactorOut-find_nonfinite", "FactorOut-inverse",
                  "FactorOut-inverse_and_log_det", "FactorOut-inverse_log_det_jacobian",
                  "FactorOut-inverse_alone")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["toy_flow", "FactorOut"])
def test_every_method_takes_it(name, method):
    flow, x = build(name)
    if method in INVERSE:
        x = tf.zeros([3, *flow.latent_shape(flow.event_shape)], tf.float64)
    x = tf.cast(x > 0.4, tf.float64)
    want, array = METHODS[method](flow, x), x.numpy()
    kinds = [array.tolist(), array.astype(int).tolist(), tf.Variable(x), tf.cast(x, tf.bfloat16)]
    dtypes = ("uint8", "int64", "float32", "float16", bool)
    for kind in [*kinds, *map(array.astype, dtypes if method == "forward_and_log_det" else [int])]:
        close(METHODS[method](flow, kind), want)


def test_sizes_that_only_a_run_knows():
    flow, x = build("ActNorm_per_element")
    want = flow.forward_and_log_det(x, seed=0)
    for shape in (None, [None, None]):
        traced = tf.function(lambda x: flow.forward_and_log_det(x, 0),
                             input_signature=[tf.TensorSpec(shape, tf.float64)])
        close(traced(x), want)
    with pytest.raises(tf.errors.InvalidArgumentError, match="not compatible with expected shape"):
        traced(tf.concat([x, x], 1))


def test_frames():
    flow = flows.tabular_flow([3], nblocks=1, dims=(4,), dtype="float64", seed=0)
    frame = pandas.DataFrame({"a": [0.5, 1.5], "b": pandas.array([1, 2], "Int64"),
                              "c": [True, False]})
    x = np.array([[0.5, 1, 1], [1.5, 2, 0]])
    close(flow.forward_and_log_det(frame, 0), flow.forward_and_log_det(x, 0))
    close(flow.forward(frame), flow.forward(x))
    with pytest.raises(ValueError, match=r"`x` must have columns of numbers .*\['b'\] of dtype"):
        flow.forward(frame.assign(b=["u", "v"]))


def test_lists_keep_the_digits_of_a_float64_flow():
    flow = bijectors.Chain([tfb.Shift(tf.zeros([], tf.float64)),
                            bijectors.ActNorm([1], dtype="float64")])
    assert flow.forward([[0.1]]).numpy().item() == 0.1


def test_densities_of_other_dtypes():
    """As data comes: float64 arrays and bytes, through a float32 flow and TFP's distribution."""
    flow = flows.toy_flow(nblocks=1, dims=(4,), seed=0)
    base = tfd.MultivariateNormalDiag(tf.zeros(2), tf.ones(2))
    dist = tfd.TransformedDistribution(base, tfb.Invert(flow))
    x = tf.constant([[1.0, 0.0], [2.0, 1.0]])
    want = dist.log_prob(x, bijector_kwargs={"seed": 0})
    for kind in ("float64", "uint8", "int64"):
        given = tf.constant(x.numpy().astype(kind))
        np.testing.assert_allclose(dist.log_prob(given, bijector_kwargs={"seed": 0}), want)


def test_an_inverse_is_of_the_flows_dtype():
    """Also where it is remembered what z was made of."""
    flow = bijectors.ActNorm([2])
    x = tf.constant([[1, 2]])
    assert flow.inverse(flow.forward(x)).dtype == tf.float32


def test_weights_of_two_dtypes_are_refused():
    with pytest.raises(ValueError, match="of one dtype. Received: float32 and float64"):
        bijectors.Chain([bijectors.ActNorm([2]), bijectors.ActNorm([2], dtype="float64")])


class _Doubled(bijectors.Flow):
    """A user's own flow, without a thought of dtypes and shapes."""

    def forward_and_log_det(self, x, seed=None):
        return 2 * x, tf.fill([x.shape[0]], 2 * tf.math.log(tf.constant(2.0, x.dtype)))


def test_flows_of_ones_own_are_served_alike():
    flow = _Doubled([2])
    np.testing.assert_array_equal(flow.forward_and_log_det(x=np.array([[1, 2]]))[0], [[2.0, 4.0]])
    with pytest.raises(ValueError, match=r"`x` must be \[N, 2\]. Received: shape=\(1, 3\)"):
        flow.forward_and_log_det(example([3], 1))


@pytest.mark.fast("eager")
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "traced"])
def test_an_inverse_that_fails_says_so_in_its_own_words(wrap):
    flow = flows.toy_flow(nblocks=1, dims=(4,), seed=0, actnorm=False)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        wrap(flow.inverse)(tf.constant([[np.nan, 0.0]]))
    text = str(caught.value)
    assert "The inverse of dense0 did not converge. Likely causes: " in text
    if wrap is not tf.function:
        assert text.startswith("The inverse of dense0") and "\n" not in text and "tf." not in text
