"""Training by divergences: drawn samples, replicas, saving, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import Inverted, flows
from tests.registry import EXACT
from tests.test_kl import GRADIENTS, KINDS, every_kind
from tfresflow import FlowModel, autodiff, losses, targets


def model(kind=losses.ReverseKL, target=None, *, gradient=losses.Path(), **kwargs):
    flow = flows.toy_flow([2], nblocks=2, dims=(8,), actnorm=False, **EXACT)
    made = FlowModel(Inverted(flow) if kind is losses.ReverseKL else flow, **kwargs)
    made.compile(keras.optimizers.Adam(1e-2), loss=kind(target or targets.ManyWell(2), gradient))
    return made


def weights_of(made):
    return [v.numpy() for v in made.trainable_variables]


def assert_same(one, other, atol=1e-10):
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_a_strategy_that_measures_its_error_plays_no_part(parts):
    """In micro-batches neither; nothing is reported of what was not measured."""
    plain, measuring = (model(autodiff=way, micro_batches=parts)
                        for way in (None, autodiff.Moonwalk()))
    histories = [made.fit(batch_size=16, steps_per_epoch=2, verbose=0).history
                 for made in (plain, measuring)]
    assert_same(plain, measuring)
    assert sorted(histories[1]) == sorted(histories[0]) == ["ess", "loss"]


def test_fit_draws_its_samples_and_goes_on():
    """In two pieces, in micro-batches: the same weights; the logs are loss and ess."""
    whole, pieces, parts = model(), model(), model(micro_batches=3)
    history = whole.fit(batch_size=16, steps_per_epoch=4, verbose=0).history
    for _ in range(2):
        pieces.fit(batch_size=16, steps_per_epoch=2, verbose=0)
    parts.fit(batch_size=16, steps_per_epoch=4, verbose=0)
    assert_same(whole, pieces)
    assert_same(whole, parts)
    assert sorted(history) == ["ess", "loss"] and 0 < history["ess"][0] <= 1
    first, again = (whole.evaluate(batch_size=16, steps=3, verbose=0, return_dict=True)
                    for _ in range(2))
    assert first == again and sorted(first) == ["ess", "loss"]


@pytest.mark.slow
@every_kind
def test_two_replicas_train_the_same(kind, mirrored):
    one = model(kind)
    with mirrored.scope():
        two = model(kind)
    histories = [made.fit(batch_size=16, steps_per_epoch=4, verbose=0).history
                 for made in (one, two)]
    assert_same(one, two)
    for name, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][name], rtol=1e-5)


@pytest.mark.slow
def test_likelihood_first_then_the_divergence_and_back(tmp_path):
    """Compiled anew; saved with the loss and loaded; each stage reports its own."""
    target = targets.GaussianMixture(2)
    made = FlowModel(flows.toy_flow([2], nblocks=2, dims=(8,), **EXACT))
    made.compile("adam")
    x = target.sample(64, seed=0, dtype="float64")
    assert sorted(made.fit(x, verbose=0).history) == ["loss", "nll"]
    made.compile("adam", loss=losses.ForwardKL(target))
    assert sorted(made.fit(x, batch_size=16, verbose=0).history) == ["ess", "loss"]
    made.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.divergence == made.divergence
    for one in (made, loaded):
        one.fit(x, batch_size=16, shuffle=False, verbose=0)
    assert_same(made, loaded)
    made.compile("adam")
    assert sorted(made.fit(x, verbose=0).history) == ["loss", "nll"]


@pytest.mark.slow
def test_training_finds_the_target():
    """Reverse and forward, by each gradient: the loss comes near -log Z, never below it."""
    target = targets.as_target(tfp.distributions.MultivariateNormalTriL(
        tf.constant([0.5, -0.5], tf.float64), tf.constant([[1.2, 0.0], [0.8, 0.6]], tf.float64)))
    for kind in KINDS:
        for gradient in GRADIENTS.values():
            made = model(kind, target, gradient=gradient)
            before = made.evaluate(batch_size=1000, steps=1, verbose=0, return_dict=True)
            made.fit(batch_size=64, steps_per_epoch=150, verbose=0)
            after = made.evaluate(batch_size=1000, steps=1, verbose=0, return_dict=True)
            assert -0.02 < after["loss"] < 0.2 * before["loss"], (kind, gradient)
            assert after["ess"] > before["ess"]
            samples = made.sample_importance(4000)
            value, error = samples.log_z()
            assert abs(value) < 4 * error + 0.01 and samples.effective_size > 0.7


def test_errors_name_argument_and_rule():
    made, target = model(), targets.ManyWell(2)
    x = np.zeros([4, 2])
    for call, said in [
            (lambda: made.fit(x), "`x` must be None: ReverseKL draws its samples"),
            (lambda: made.fit(), "`steps_per_epoch` must be at least 1"),
            (lambda: made.fit(steps_per_epoch=1, batch_size=0), "`batch_size` must be at least 1"),
            (lambda: made.fit(steps_per_epoch=1, validation_data=x), "`validation_data` must be N"),
            (lambda: made.evaluate(), "`steps` must be at least 1"),
            (lambda: made.sample_importance(0), "`n` must be at least 1"),
            (lambda: losses.ReverseKL(target, gradient="path"), "`gradient` must be `Path()`"),
            (lambda: losses.ReverseKL("phi4"), "`thing` must be a target"),
            (lambda: made.compile("adam", loss=losses.ReverseKL(targets.ManyWell(4))),
             "`target` must be of the flow's event_shape"),
            (lambda: made.compile("adam", loss="mse"), "`loss` must be None, or `loss` a")]:
        with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
            call()
    with pytest.raises(ValueError, match="`target` must be given to a model"):
        FlowModel(made.flow).sample_importance(3)


@pytest.mark.slow
def test_what_no_divergence_takes():
    target = targets.ManyWell(2)
    scale = tf.Variable([1.0, 1.0], dtype=tf.float64)
    base = tfp.distributions.MultivariateNormalDiag(scale_diag=scale)
    layer = flows.toy_flow([2], nblocks=1, dims=(4,), **EXACT)
    trained = FlowModel(layer, base)
    trained.compile("adam", loss=losses.ForwardKL(target))
    trained.fit(batch_size=8, steps_per_epoch=2, verbose=0)
    assert np.abs(scale.numpy() - 1).max() > 1e-4
    with pytest.raises(ValueError, match="`base` must have no trainable variables for ReverseKL"):
        trained.compile("adam", loss=losses.ReverseKL(target))


def test_a_loss_that_is_not_finite_says_where():
    bad = targets.as_target(lambda x: tf.reduce_sum(x, axis=1) * np.nan, [2])
    with pytest.raises(FloatingPointError, match="first bad: the target's log_prob"):
        model(target=bad).fit(batch_size=8, steps_per_epoch=1, verbose=0)
