"""What each strategy evaluates and keeps, and that training by each ends in the same weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import bijectors
from bijectors import flows
from tests.gradients import (FORWARD, OTHERS, assert_close, assert_equal, by_tape, deep, estimator,
                             loss_of, plane, rough, roughened, traced)
from tests.registry import example
from tfresflow import FlowModel, autodiff, optimizers, solvers
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.functions.steps import Rows, Step

tfb = tfp.bijectors


class Counted(Step):
    """`x + sin(x) / 2`, which counts its evaluations."""

    weights = ()

    def __init__(self):
        self.count = 0

    def value(self, x, rows):
        self.count += 1
        return x + tf.sin(x) / 2

    def linearise(self, x, rows):
        slope, z = 1 + tf.cos(x) / 2, self.value(x, rows)
        log_det = tf.reduce_sum(tf.math.log(slope), axis=1)
        curved = -tf.sin(x) / 2 / slope
        return z, lambda dz, dlog_det: (dz * slope + dlog_det[:, None] * curved, log_det, [])


@pytest.mark.parametrize("strategy, evaluations", [
    (autodiff.Stored(), lambda n: n), (autodiff.Recomputed(), lambda n: 2 * n),
    (autodiff.Checkpointed(), lambda n: 3 * n - 2 * round(n ** 0.5) + 1),
    (autodiff.Checkpointed(1), lambda n: 2 * n), (autodiff.Checkpointed(99), lambda n: 2 * n),
    (autodiff.MemoryPoor(), lambda n: n + n * (n + 1) // 2)])
def test_evaluations_of_a_step(strategy, evaluations):
    steps, x, d = [Counted() for _ in range(9)], example([2]), tf.ones([3], tf.float64)
    found = strategy(steps, x, Rows(tf.range(3)), d, lambda z: ((), 2 * z))
    assert sum(step.count for step in steps) == evaluations(9)
    want = autodiff.Stored()(steps, x, Rows(tf.range(3)), d, lambda z: ((), 2 * z))
    assert_equal(found.products, want.products)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line", "tabular"])
def test_forward_mode_is_the_tape(name):
    """One pass for each weight; and Moonwalk whose first phase is one for each entry of x."""
    flow = rough(name)
    x = example(flow.event_shape, 2)
    want = by_tape(flow, x)
    for strategy in [FORWARD["moonwalk_pure"], *([FORWARD["forward"]] if name == "line" else [])]:
        got = autodiff.gradients(flow, loss_of, x, seed=3, autodiff=strategy)
        assert_close(got, want, 1e-8)


@pytest.mark.slow
def test_projected_forward_is_right_on_average():
    """Mean of 4,000 directions, in standard errors; and its variance is that of the whole."""
    flow = roughened(flows.toy_flow([1], nblocks=1, dims=(3,), **estimator()))
    x = example([1], 5)

    @tf.function(autograph=False)
    def draw(seed):
        rows, d = Rows(tf.range(5), seed=seed), tf.ones([5], tf.float64)
        found = autodiff.ProjectedForward(directions=4)(steps, x, rows, d, lambda z: ((), z))
        return tf.concat([tf.reshape(t, [-1]) for t in [*found.dweights, found.dx]], axis=0)

    steps = flow.bind(3, 5, x.dtype).steps
    exact = autodiff.Stored()(steps, x, Rows(tf.range(5)), tf.ones([5], tf.float64),
                              lambda z: ((), z))
    want = np.concatenate([np.ravel(t) for t in [*exact.dweights, exact.dx]])
    draws = np.array([draw(as_seed(i)) for i in range(1000)])
    errors = (draws.mean(axis=0) - want) / (draws.std(axis=0, ddof=1) / 1000 ** 0.5)
    assert np.abs(errors).max() < 4
    of_weights = draws[:, :-5]
    spread = of_weights.var(axis=0).sum()
    size = of_weights.shape[1]
    assert spread == pytest.approx((size + 1) / 4 * np.sum(want[:-5] ** 2), rel=0.2)


@pytest.mark.fast("moonwalk")
@pytest.mark.parametrize("way", ["checkpointed", "reversible", "moonwalk"])
def test_micro_batches_of_weighted_examples(way):
    flow, weights = rough("plane_preact"), tf.linspace(tf.constant(0.0, tf.float64), 2.0, 7)
    x, part = example([2], 7), Part(as_seed(4), tf.constant(7, tf.int64))
    want = FlowModel(flow)._sums(x, weights, part)
    model = FlowModel(flow, micro_batches=3, autodiff=OTHERS[way])
    assert_close(traced(lambda x: model._sums(x, weights, part), x), want, 1e-8)


def trained(way, strategy=None, flow=plane):
    """Weights after ten steps of `fit`."""
    keras.utils.set_random_seed(0)
    x = example([2], 60)
    with (strategy or tf.distribute.get_strategy()).scope():
        model = FlowModel(roughened(flow()), autodiff=way)
        model.compile(optimizers.Adam(1e-2))
    model.fit(x, epochs=2, batch_size=12, shuffle=False, verbose=0)
    return [w.numpy() for w in model.trainable_variables]


SOLVED = {"reversible": autodiff.Reversible(), "moonwalk": autodiff.Moonwalk(),
          "moonwalk_reversible": autodiff.Moonwalk(autodiff.Reversible())}


@pytest.mark.slow
def test_ten_steps_end_in_the_same_weights(mirrored):
    """By every exact strategy, on one device and on two replicas."""
    want = trained(autodiff.Stored())
    ways = {"checkpointed": autodiff.Checkpointed(), "memory_poor": autodiff.MemoryPoor(),
            "recomputed": autodiff.Recomputed(), **SOLVED}
    for name, way in ways.items():
        for strategy in (None, mirrored):
            for got, weight in zip(trained(way, strategy), want, strict=True):
                np.testing.assert_allclose(got, weight, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("way", [autodiff.Checkpointed(3), autodiff.Moonwalk(autodiff.Reversible()),
                                 autodiff.Auto(10 ** 9, batch_size=12), autodiff.Released()])
def test_a_saved_model_keeps_its_strategy(way, tmp_path):
    model = FlowModel(flows.toy_flow(nblocks=1, dims=4), autodiff=way)
    model.compile("adam")
    model.save(tmp_path / "model.keras")
    assert keras.saving.load_model(tmp_path / "model.keras").autodiff == way


def saturating(depth=6, slope=2.0):
    """`y = tanh(c x)`, no residual, so that Moonwalk divides by slopes that are next to 0."""
    steps = [step for _ in range(depth) for step in (
        tfb.Tanh(), tfb.Scale(slope), bijectors.ActNorm([2], dtype="float32"))]
    return bijectors.Chain(steps, [2])


def test_moonwalk_finds_that_it_fails_and_trains_on():
    x = 3 * tf.cast(example([2], 64), tf.float32)
    with pytest.warns(UserWarning, match="`fallback`; the metric gradient_fallbacks") as said:
        losses = {}
        for name, way in {"moonwalk": autodiff.Moonwalk(), "stored": autodiff.Stored()}.items():
            keras.utils.set_random_seed(0)
            model = FlowModel(saturating(), autodiff=way)
            model.compile(optimizers.Adam(1e-2))
            losses[name] = model.fit(x, epochs=2, batch_size=16, shuffle=False, verbose=0).history
    assert len(said) == 1
    assert losses["moonwalk"]["gradient_fallbacks"][0] > 0
    assert 0 < losses["moonwalk"]["gradient_error"][0] <= 1
    np.testing.assert_allclose(losses["moonwalk"]["loss"], losses["stored"]["loss"], rtol=1e-5)


@pytest.mark.slow
def test_moonwalk_measures_nothing_in_evaluation():
    model = FlowModel(plane(dims=(4,)), autodiff=autodiff.Moonwalk())
    model.compile(optimizers.Adam())
    x = example([2], 8)
    history = model.fit(x, verbose=0, validation_data=x).history
    assert history["gradient_error"][0] < 1e-12 and history["gradient_fallbacks"] == [0]
    assert set(history) == {"loss", "nll", "val_loss", "val_nll", "gradient_error",
                            "gradient_fallbacks"}
    assert set(model.evaluate(x, verbose=0, return_dict=True)) == {"loss", "nll"}


def test_block_by_block_is_the_whole_gradient():
    """Each applied before the next is computed: what a step reads was read before."""
    flow = rough("plane")
    x, variables = example([2]), [v.value for layer in flow.layers
                                  for v in layer.trainable_variables]
    value, want, _ = autodiff.gradients(flow, loss_of, x, seed=3)
    found, sums = autodiff.walk(flow, loss_of, x, seed=3)[1], {}
    for own, gradients in found:
        for variable, gradient in zip(own, gradients):
            sums[id(variable)] = sums.get(id(variable), 0) + gradient
            variable.assign_sub(0.01 * gradient)
    assert_close([sums[id(v)] for v in variables], want, 1e-8)
    got, blocks = autodiff.walk(flow, loss_of, x, seed=3)
    assert len(list(blocks)) == 4 and float(got) != float(value)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at the end of the sweep"):
        list(autodiff.walk(saturating(), loss_of, 3 * example([2], 64), 0)[1])


@pytest.mark.slow
def test_moonwalk_in_float32():
    """64 blocks at coeff 0.98, beside float64."""
    narrow, wide = (deep(64, dtype=dtype) for dtype in ("float32", "float64"))
    for layer in narrow.layers:
        for weight in layer.trainable_variables:
            weight.assign(3 * weight)
    narrow.update_norms()  # 0.98, the bound, of every layer
    for layer, other in zip(narrow.layers, wide.layers, strict=True):
        for weight, same in zip(layer.weights, other.weights, strict=True):
            same.assign(tf.cast(weight, same.dtype))
    found, x = [], example([8], 32)
    for flow, way in ((narrow, autodiff.Moonwalk(fallback=None)), (wide, autodiff.Stored())):
        loss = lambda z, log_det: tf.reduce_mean(  # noqa: E731
            tf.reduce_sum(z ** 2, axis=1) / 2 - log_det)
        own = tf.cast(x, flow.layers[0].weights[0].dtype)
        _, dweights, _ = autodiff.gradients(flow, loss, own, seed=3, autodiff=way)
        found.append(np.concatenate([np.ravel(d) for d in dweights]).astype(float))
    got, want = found
    assert np.linalg.norm(got - want) < 1e-4 * np.linalg.norm(want)


@pytest.mark.parametrize("make, message", [
    (lambda: autodiff.Checkpointed(0), "`segment` must"),
    (lambda: autodiff.Checkpointed("all"), "`segment` must"),
    (lambda: autodiff.Moonwalk(input_gradient=3), "`input_gradient` must be `Recomputed"),
    (lambda: autodiff.Moonwalk(tolerance=0), "`tolerance` must be positive"),
    (lambda: autodiff.Moonwalk(fallback="stored"), "`fallback` must be `Recomputed"),
    (lambda: autodiff.ProjectedForward(0), "`directions` must"),
    (lambda: autodiff.Auto(0.5), "`memory_limit` must"),
    (lambda: autodiff.walk(deep(1), loss_of, tf.zeros([2, 8]), 0, autodiff.Stored()),
     "`autodiff` must be a `Moonwalk`"),
    (lambda: autodiff.walk(bijectors.Dequantize(None, [2], 2), loss_of, tf.zeros([2, 2]), 0),
     "`flow` must be of bijections"),
    (lambda: autodiff.saved(deep(1), 3, 10), "`autodiff` must be `Recomputed"),
    (lambda: autodiff.saved(deep(1), autodiff.Stored(), "x"), "`batch` must")])
def test_one_line_names_argument_rule_and_value(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "Received: " in str(error.value)


def test_an_inverse_that_does_not_converge_is_an_error():
    flow = flows.toy_flow(nblocks=1, dims=(4,), solver=solvers.Anderson(max_steps=1),
                          **estimator())
    with pytest.raises(tf.errors.InvalidArgumentError, match="The inverse of dense0"):
        autodiff.gradients(roughened(flow), loss_of, example([2]), 0,
                           autodiff=autodiff.Reversible())
