"""Randomness without a seed: fresh at every call, and the global seed's to repeat."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.test_model import toy_model
from tfresflow import logdet
from tfresflow.batches import seeds


@pytest.mark.fast("eager")
@pytest.mark.parametrize("set_seed, wrap", [
    (keras.utils.set_random_seed, lambda f: f),
    (tf.random.set_seed, lambda f: tf.function(f, autograph=False))], ids=["eager", "traced"])
def test_the_global_seed_repeats_samples_and_densities(set_seed, wrap):
    model = toy_model(eval_log_det=logdet.LogDet(logdet.Truncated(3)))
    x = tf.zeros([8, 2])

    def run(seed):
        set_seed(seed)
        sample, log_prob = wrap(lambda: model.sample(8)), wrap(lambda: model.log_prob(x))
        return [f().numpy() for f in (sample, sample, log_prob, log_prob)]

    first, again, other = run(1), run(1), run(2)
    for a, b, c in zip(first, again, other):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - c).max() > 1e-3
    assert np.abs(first[0] - first[1]).max() > 1e-3 and np.abs(first[2] - first[3]).max() > 1e-4


def test_setting_the_seed_again_begins_a_traced_sequence_anew():
    draw = tf.function(seeds.as_seed)
    runs = []
    for _ in range(2):
        tf.random.set_seed(5)
        runs.append([draw().numpy().tolist() for _ in range(3)])
    assert runs[0] == runs[1] and len({tuple(s) for s in runs[0]}) == 3


def test_without_any_seed_no_two_calls_are_equal():
    tf.random.set_seed(None)
    draw = tf.function(seeds.as_seed)
    drawn = [f().numpy() for f in (seeds.as_seed, draw, tf.function(seeds.as_seed)) for _ in "ab"]
    assert len({tuple(s) for s in drawn}) == 6


def test_two_traces_and_two_places_of_one_function_draw_apart():
    tf.random.set_seed(0)
    draw = tf.function(lambda x: (seeds.as_seed(), seeds.as_seed()))
    drawn = [s.numpy() for n in (1, 2) for s in draw(tf.zeros([n]))]
    assert len({tuple(s) for s in drawn}) == 4


def test_an_exported_endpoint_draws_without_a_seed(tmp_path):
    module = tf.Module()
    module.draw = tf.function(lambda: seeds.normal(seeds.Part(seeds.as_seed()), [2, 3], tf.float32),
                              input_signature=[])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    assert np.abs(loaded.draw() - loaded.draw()).max() > 1e-3


_DETERMINISTIC = """
import tensorflow as tf
from tfresflow.batches import seeds
tf.config.experimental.enable_op_determinism()
tf.random.set_seed(0)
draw = tf.function(seeds.as_seed)
drawn = [f().numpy().tolist() for f in (seeds.as_seed, draw) for _ in "ab"]
assert len({tuple(s) for s in drawn}) == 4, drawn
"""


@pytest.mark.slow
def test_with_deterministic_ops():
    """In a process of its own, as it cannot be taken back."""
    subprocess.run([sys.executable, "-c", _DETERMINISTIC], check=True)


@pytest.mark.parametrize("seed", ["a", 1.5, [1, 2, 3], [[1, 2]], object(), {"a": 1}],
                         ids=["text", "float", "three", "matrix", "object", "dictionary"])
def test_a_bad_seed_is_told(seed):
    with pytest.raises(ValueError, match=r"`seed` must be None, an integer or .*Received: seed="):
        seeds.as_seed(seed)


def test_integers_of_any_kind_are_the_same_seed():
    want = seeds.as_seed(2 ** 40 + 3)
    np.testing.assert_array_equal(seeds.as_seed(np.int64(2 ** 40 + 3)), want)
    for kind in (np.int32, np.uint8, lambda i: tf.constant(i, tf.uint8)):
        np.testing.assert_array_equal(seeds.as_seed(kind(7)), seeds.as_seed(7))
    assert seeds.as_seed(tf.constant([1, 2], tf.uint64)).dtype == tf.int64
