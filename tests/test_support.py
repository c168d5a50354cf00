"""Flows of a part of space: outside of it the density is 0, never NaN; training data is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.registry import EXACT, SUPPORTS, build, example
from tfresflow import FlowModel

tfb, tfd = tfp.bijectors, tfp.distributions


def image():
    return bijectors.Chain([flows.toy_flow([4], nblocks=1, dims=(4,), **EXACT),
                            bijectors.Flatten([2, 2, 1]), bijectors.Logit([2, 2, 1])])


def table():
    return flows.tabular_flow([5], nblocks=1, dims=(4,), supports=SUPPORTS, **EXACT)


OUTSIDE = {"image": (image, [-0.06, 1.06, 255.0, -3.0, np.inf]),
           "table": (table, [-1.0, -3.0, 5.0, -np.inf])}


@pytest.mark.fast("table-eager", "image-eager")
@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "traced"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_density_is_zero_and_so_is_its_gradient(name, wrap):
    make, values = OUTSIDE[name]
    flow = make()
    model = FlowModel(flow)
    inside = example(flow.event_shape, 1, unit=True)
    bad = np.repeat(inside, len(values), 0)
    bad.reshape(len(values), -1)[:, 2] = values
    x = tf.concat([inside, bad], 0)

    def run(x):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            log_prob = model.log_prob(x, seed=0)
        variables = [v.value for v in model.trainable_variables]
        return log_prob, tape.gradient(log_prob, x), tape.gradient(log_prob, variables)

    log_prob, dx, dweights = wrap(run)(x)
    np.testing.assert_array_equal(log_prob[1:], -np.inf)
    assert np.isfinite(log_prob[0]) and np.any(dx[0])
    np.testing.assert_array_equal(np.reshape(dx[1:], [len(values), -1])[:, 2], 0)
    assert np.isfinite(dx).all() and all(np.isfinite(d).all() for d in dweights)
    base = tfd.Sample(tfd.Normal(tf.zeros([], tf.float64), 1.0),
                      flow.latent_shape(flow.event_shape))
    dist = tfd.TransformedDistribution(base, tfb.Invert(flow))
    np.testing.assert_allclose(wrap(dist.log_prob)(tf.identity(x)), log_prob, rtol=1e-9)


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_is_no_number_stays_none(name):
    flow = OUTSIDE[name][0]()
    x = np.array(example(flow.event_shape, 2, unit=True))
    x.reshape(2, -1)[1, 2] = np.nan
    log_prob = FlowModel(flow).log_prob(x, seed=0)
    assert np.isfinite(log_prob[0]) and np.isnan(log_prob[1])


def test_the_support_of_a_logit_is_wider_than_the_unit_interval():
    logit, end = bijectors.Logit([1], 0.05), 0.05 / 0.9
    x = tf.constant([[-end - 1e-9], [-end + 1e-9], [1 + end - 1e-9], [1 + end + 1e-9]], tf.float64)
    _, log_det = logit.forward_and_log_det(x)
    np.testing.assert_array_equal(np.isfinite(log_det), [False, True, True, False])
    exact = bijectors.Logit([1], 0.25)  # s is 0 and 1 to the last digit
    np.testing.assert_array_equal(exact.forward_and_log_det([[-0.5], [1.5]])[1], -np.inf)


def test_bytes_are_refused_before_training():
    model, bytes_ = FlowModel(image()), np.full([8, 2, 2, 1], 255, "uint8")
    model.compile(keras.optimizers.SGD(0.1))
    before = [w.numpy() for w in model.trainable_weights]
    with pytest.raises(ValueError, match=r"`x` must be in \[0, 1\].*Received: values from 255 to"):
        model.fit(bytes_.astype("float32"), verbose=0)
    for old, new in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match=r"`x` must be in \[0, 1\]"):
        bijectors.Logit([2, 2, 1]).initialize(bytes_)


def test_the_column_is_named():
    flow, x = table(), np.array(example([5], 6, unit=True))
    x[4, 3], x[5, 3] = -0.25, 0
    with pytest.raises(ValueError, match=r"column 3 of `x` must be inside its support, \(0, inf\). "
                                         r"Received: -0.25 in row 4 \(2 of 6 rows"):
        flow.initialize(x)
    x[2, 2] = 2.0
    with pytest.raises(ValueError, match=r"column 2 .* \(-1, 2\). Received: 2 in row 2"):
        flow.initialize(x)


def test_samples_are_inside():
    flow = table()
    flow.initialize(example([5], 50, unit=True))
    x = FlowModel(flow).sample(100, seed=0).numpy()
    assert (x[:, [0, 3]] > 0).all() and x[:, 1].min() < 0
    assert (np.abs(x[:, 2] - 0.5) < 1.5).all() and (np.abs(x[:, 4] - 0.5) < 1).all()


def test_an_inverse_is_inside_however_it_is_rounded():
    flow = bijectors.ColumnSupports([1], [("interval", 1000, 1001)])
    x = flow.inverse([[-30.0], [30.0]])
    assert np.all((x > 1000) & (x < 1001)) and np.isfinite(flow.forward_and_log_det(x)[1]).all()


def test_supports_are_those_of_tfp():
    flow, x = build("ColumnSupports", 20)
    z, log_det = flow.forward_and_log_det(x)
    total = 0
    low, other = tf.constant(-1.0, tf.float64), tf.constant(-0.5, tf.float64)
    for i, b in enumerate([tfb.Exp(), tfb.Identity(), tfb.Sigmoid(low, 2.0), tfb.Softplus(),
                           tfb.Sigmoid(other, 1.5)]):
        np.testing.assert_allclose(z[:, i], b.inverse(x[:, i]), rtol=1e-9, atol=1e-12)
        total += b.inverse_log_det_jacobian(tf.identity(x[:, i]), 0)
    np.testing.assert_allclose(log_det, total, rtol=1e-9)
    by_column = bijectors.ColumnSupports([5], {np.int64(0): "positive", 2: ("interval", -1, 2),
                                               -2: "softplus", 4: ["interval", -0.5, 1.5]})
    np.testing.assert_array_equal(by_column.forward(x), z)


@pytest.mark.parametrize("supports, message", [
    ({3: "positive"}, r"`supports` must be of columns in 0..2. Received: column 3"),
    ({"a": "positive"}, "Received: column 'a'"), (["real"], "one for each of the 3 columns"),
    ({1: "negative"}, r"`supports` of column 1 must be 'real', .*Received: 'negative'"),
    ({1: ("interval", 1, 0)}, "low < high"), ({1: ("interval", 0)}, "column 1 must be"),
    ({1: ("interval", "a", 2)}, "column 1 must be"), ({1: ("interval", 0, np.inf)}, "finite"),
    ({1: 5}, "`supports` of column 1 must be")])
def test_bad_supports(supports, message):
    with pytest.raises(ValueError, match=message):
        flows.tabular_flow([3], nblocks=1, dims=(4,), supports=supports)
