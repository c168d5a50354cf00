"""A step on replicas and in micro-batches is the step of one device; none is made of NaN."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tfresflow import FlowModel, layers, logdet
from tfresflow.batches import seeds
from tfresflow.training import optimizers
from tfresflow.training import packing as captures
from tfresflow.training.distributed import NonFinite


@pytest.fixture
def float64():
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


def data(n):
    x = np.random.RandomState(0).randn(n, 3) @ [[3, 1, 0], [0, 1, 0], [0, 0.5, 0.1]] + 2
    return x.astype(keras.config.floatx())


def model(strategy=None, use_ema=True, **kwargs):
    with (strategy or tf.distribute.get_strategy()).scope():
        flow = flows.tabular_flow([3], nblocks=2, dims=(8,), seed=0,
                                  log_det=logdet.LogDet(logdet.Geometric(0.5)),
                                  power_iteration=layers.PowerIteration(5))
        made = FlowModel(flow, **kwargs)
        made.compile(optimizers.Adam(1e-2, global_clipnorm=0.5, use_ema=use_ema))
    return made


def arrays(made):
    """All but the marks of norms, which are of all bits: sums of replicas are rounded otherwise."""
    return [np.asarray(w.value) for w in [*made.weights, *made.optimizer.variables]
            if w.name != "mark"]


@pytest.mark.parametrize("draw", [
    lambda seed, shape: seeds.normal(seed, shape, tf.float32),
    lambda seed, shape: seeds.normal(seed, shape, tf.float64),
    lambda seed, shape: seeds.normal(seed, shape, tf.float16), seeds.bits],
    ids=["float32", "float64", "float16", "bits"])
@pytest.mark.parametrize("event", [[1], [3], [2, 4, 4], [28, 28, 1]])
def test_a_part_draws_the_rows_of_the_whole(draw, event):
    seed = seeds.as_seed(7)
    whole = draw(seeds.Part(seed), [300, *event]).numpy()
    for first, n in ((0, 300), (1, 5), (150, 150), (299, 1)):
        part = draw(seeds.Part(seed, tf.constant(first, tf.int64)), [n, *event])
        np.testing.assert_array_equal(part, whole[first:first + n])
    assert len(np.unique(whole)) > 0.95 * min(whole.size, 2000)
    np.testing.assert_array_equal(draw(seeds.Part(seed), [300, *event]), whole)


@pytest.mark.parametrize("seed", [
    seeds.as_seed(7), tf.constant([-3, 2 ** 40], tf.int64), seeds.Part(seeds.as_seed(1), 5)],
    ids=["int32", "int64", "part"])
def test_a_split_seed_is_folded(seed):
    for i, own in enumerate(seeds.split(seed, 5)):
        tf.nest.map_structure(np.testing.assert_array_equal, own, seeds.fold_in(seed, i))


def test_the_stream_is_standard_normal():
    x = seeds.normal(seeds.Part(seeds.as_seed(0)), [10000, 7], tf.float64).numpy()
    stderr = 1 / np.sqrt(x.size)
    assert abs(x.mean()) < 4 * stderr and abs(x.var() - 1) < 4 * np.sqrt(2) * stderr
    assert abs(np.corrcoef(x.T) - np.eye(7)).max() < 4 / np.sqrt(10000)


def test_number_of_terms_does_not_depend_on_the_part():
    """Replicas run as many terms as each other: none waits."""
    rule = logdet.Poisson(2.0)
    drawn = []

    class Recorded:
        def draw(self, seed, dtype):
            drawn.append(rule.draw(seed, dtype).numpy())
            return rule.draw(seed, dtype)

        shareable = False

    net, x = (lambda x: 0.5 * tf.sin(x)), tf.ones([4, 3])
    for first in (0, 4, 1000):
        logdet.LogDet(Recorded())(net, x, seeds.Part(seeds.as_seed(5), first))
    assert len(drawn) == 3
    for c in drawn:
        np.testing.assert_array_equal(c, drawn[0])


@pytest.mark.slow
@pytest.mark.parametrize("layout, n", [("micro", 50), ("mirrored", 50), ("both", 50)])
def test_steps_equal_those_of_one_device(layout, n, float64, mirrored):
    """Weights, averages, moments and singular vectors after 20 steps, and what was logged."""
    strategy = None if layout == "micro" else mirrored
    one, other = model(), model(strategy, micro_batches=1 if layout == "mirrored" else 2)
    logs = [m.fit(data(n), batch_size=32, epochs=10, shuffle=False, verbose=0,
                  validation_data=data(37)).history for m in (one, other)]
    assert int(one.optimizer.iterations) == 20
    for a, b in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    for name in logs[0]:  # metrics are float32 sums
        np.testing.assert_allclose(logs[0][name], logs[1][name], rtol=2e-6)


@pytest.mark.slow
def test_actnorm_starts_from_the_whole_batch(float64, mirrored):
    one, two = model(), model(mirrored)
    for made in (one, two):
        made.fit(data(31), batch_size=31, epochs=1, verbose=0, shuffle=False)
    for a, b in zip(arrays(one), arrays(two), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_keras_callbacks_on_replicas(tmp_path, mirrored):
    made = model(mirrored)
    batches = tf.data.Dataset.from_tensor_slices(data(64)).batch(16)
    path = tmp_path / "best.weights.h5"
    made.fit(batches, epochs=4, validation_data=batches, verbose=0, callbacks=[
        keras.callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True),
        keras.callbacks.EarlyStopping(patience=3), keras.callbacks.TensorBoard(tmp_path / "tb"),
        keras.callbacks.BackupAndRestore(tmp_path / "backup")])
    history = made.history.history
    assert len(history["val_loss"]) == 4 and history["val_loss"][-1] < history["val_loss"][0]
    for weight in made.weights:
        first, second = mirrored.experimental_local_results(weight.value)
        np.testing.assert_array_equal(first, second)
    other = model()
    other.load_weights(path)
    np.testing.assert_allclose(made.predict(batches, verbose=0).shape, (64,))
    made.load_weights(path)
    np.testing.assert_allclose(other.predict(data(64), batch_size=16, verbose=0),
                               made.predict(batches, verbose=0), rtol=1e-5, atol=1e-5)


@pytest.mark.fast("1")
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_that_is_not_finite_changes_nothing(replicas, mirrored):
    made = model(mirrored if replicas == 2 else None, skip_nonfinite=1)
    x = data(32)
    made.fit(x, batch_size=32, epochs=2, verbose=0)
    weights = [np.asarray(w.value) for w in made.trainable_variables]
    spoiled = x.copy()
    spoiled[30, 1] = np.nan
    # One in a row is tolerated: it is left out of the metrics.
    assert np.isfinite(_fit_once(made, spoiled)["loss"]) and int(made.skipped.numpy()) == 1
    # Two are not.
    with pytest.raises(NonFinite, match="step 4; first bad: the data, in row (30|14), column 1 "):
        _fit_once(made, spoiled)
    assert int(made.skipped.numpy()) == 2
    assert int(made.optimizer.iterations.numpy()) == 2 + 2
    for weight, before in zip(made.trainable_variables, weights):
        np.testing.assert_array_equal(weight, before)
    assert np.isfinite(_fit_once(made, x)["loss"]) and int(made.skipped.numpy()) == 0
    assert not np.array_equal(made.trainable_variables[0], weights[0])


@pytest.mark.slow
def test_the_first_bad_block_is_named():
    made, x = model(use_ema=False), data(32)
    made.fit(x, batch_size=32, epochs=1, verbose=0)
    name = "1/1/actnorm"
    shift = made.flow.named_layers()[name][0].trainable_variables[0]
    value = shift.numpy()
    shift.assign(np.inf * np.ones_like(value))
    with pytest.raises(NonFinite, match=f"at step 2; first bad: the value of block {name}$"):
        _fit_once(made, x)
    shift.assign(value)

    class BadBackward(keras.layers.Layer):
        """Its value is x / 2; its derivative is not finite."""

        def call(self, x):
            return 0.5 * tf.grad_pass_through(lambda x: x)(x) + 0 * tf.sqrt(x - tf.stop_gradient(x))

    from bijectors import Chain, InvertibleResidual
    bad = InvertibleResidual(keras.Sequential([layers.InducedNormDense(3, coeff=0.5),
                                               BadBackward()]), [3], name="bad",
                             log_det=logdet.LogDet(logdet.Truncated(1)))
    made = FlowModel(Chain([*reversed(flows.tabular_flow([3], nblocks=1, dims=(4,))._steps), bad]))
    made.compile(optimizers.Adam())
    with pytest.raises(NonFinite, match="of block 0/bad$"):
        _fit_once(made, x)
    assert int(made.skipped.numpy()) == 1


def _fit_once(made, x):
    history = made.fit(x, batch_size=len(x), epochs=1, verbose=0, shuffle=False).history
    return {name: values[0] for name, values in history.items()}


def test_keras_own_accumulation_is_refused():
    made = model()
    made.compile(optimizers.Adam(gradient_accumulation_steps=2))
    with pytest.raises(ValueError, match="`gradient_accumulation_steps` of the optimizer must be"):
        made.fit(data(32), verbose=0)


@pytest.mark.parametrize("name", ["micro_batches", "skip_nonfinite"])
def test_bad_arguments(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least [01], a whole "
                                         f"number. Received: {name}=-1"):
        model(**{name: -1})


def test_a_train_step_of_ones_own_is_kerass():
    class Own(FlowModel):
        def train_step(self, data):
            self.loss_metric.update_state(3.0)
            return {"loss": self.loss_metric.result()}

    made = Own(flows.tabular_flow([3], nblocks=1, dims=(4,)))
    made.compile("adam")
    assert made.fit(data(32), verbose=0).history["loss"] == [3.0]


def test_gradients_are_packed_by_dtype_and_alignment():
    tensors = [tf.ones([2, 3]), tf.zeros([], tf.float64), 2 * tf.ones([0, 2]), 3 * tf.ones([]),
               4 * tf.ones([4, 8])]
    packed = captures.pack(tensors, tensors)
    assert [tuple(p.shape) for p in packed] == [(7,), (1,), (32,)]
    for got, want in zip(captures.unpack(packed, tensors), tensors):
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_a_gradient_whose_norm_overflows_changes_nothing():
    """Clipping would make it NaN: squares of 1e20 are past float32."""
    made = model(use_ema=False, skip_nonfinite=1)
    losses = made.example_losses
    made.example_losses = lambda x, seed: 1e20 * losses(x, seed)
    x = data(8)
    made.initialize(x)
    initial = [w.numpy() for w in made.trainable_variables]
    made.train_on_batch(x)
    assert int(made.skipped.numpy()) == 1
    for variable, value in zip(made.trainable_variables, initial):
        np.testing.assert_array_equal(variable.numpy(), value)
