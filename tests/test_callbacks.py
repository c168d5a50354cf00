"""Samples while it trains."""

import contextlib
import types

import numpy as np
import tensorflow as tf

from train.callbacks import SampleGrid


def model(sample):
    """As much of a model as samples are drawn from."""
    return types.SimpleNamespace(sample=sample, averaged_weights=contextlib.nullcontext,
                                 flow=types.SimpleNamespace(nbits=None),
                                 optimizer=types.SimpleNamespace(iterations=tf.constant(7)))


def pictures(folder):
    """`[(step, image)]` of what TensorBoard was written in a folder."""
    found = []
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [(event.step, tf.io.decode_image(value.tensor.string_val[2]).numpy())
                      for value in event.summary.value]
    return found


def test_sample_grid_writes_what_the_model_draws(tmp_path):
    def sample(count, seed):
        assert seed == 3
        return tf.reshape(tf.range(count, dtype=tf.float32), [count, 1, 1, 1]) / count * tf.ones(
            [1, 4, 4, 1])

    grid = SampleGrid(tmp_path, seed=3, seconds=0)
    grid.set_model(model(sample))
    grid.on_epoch_end(0)
    [(step, image)] = pictures(tmp_path)
    assert step == 7
    assert set(np.unique(image)) >= {255 * i // 16 for i in range(16)}


def test_sample_grid_waits(tmp_path):
    grid = SampleGrid(tmp_path, seed=3, seconds=3600)
    grid.set_model(model(None))  # would raise, were it called
    grid.on_epoch_end(0)
    assert not pictures(tmp_path)


def test_training_goes_on_where_an_inverse_does_not_converge(tmp_path, capsys):
    def sample(count, seed):
        raise tf.errors.InvalidArgumentError(None, None, "The inverse of block 2\nmore")

    grid = SampleGrid(tmp_path, seed=3, seconds=0)
    grid.set_model(model(sample))
    grid.on_epoch_end(0)
    assert not pictures(tmp_path)
    assert capsys.readouterr().err == "no samples at this validation: The inverse of block 2\n"
