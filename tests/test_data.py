"""Data: parts that share nothing, streams that resume, levels that do not overlap, clear errors."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from train import data
from train.data import pipeline, toy
from train.flags import parse

OFFLINE = {"mnist5k": (5000, (28, 28, 1), 8), "digits": (1797, (8, 8, 1), 4),
           "photos": (None, (32, 32, 3), 8)}


def settings(*given):
    return parse(["program", *given])


def first(dataset, n):
    return list(itertools.islice(dataset.as_numpy_iterator(), n))


@pytest.mark.fast(but=["mnist5k"])
@pytest.mark.parametrize("name", OFFLINE)
def test_parts_share_no_example(name):
    total, event_shape, nbits = OFFLINE[name]
    chosen = settings(f"--data={name}", f"--nbits={nbits}")
    parts = {split: data.levels(chosen, split) for split in ("train", "validation", "test")}
    assert all(a.shape[1:] == event_shape and len(a) > 50 for a in parts.values())
    assert total is None or sum(map(len, parts.values())) == total
    seen = {split: {image.tobytes() for image in a} for split, a in parts.items()}
    # The same content twice in the source itself is possible; the same file place is not.
    for a, b in itertools.combinations(seen, 2):
        assert len(seen[a] & seen[b]) <= 2, (a, b)


def test_an_epoch_visits_every_example_once_and_the_next_in_another_order():
    chosen = settings("--data=digits", "--nbits=4", "--batchsize=100", "--noadd_noise")
    train = data.levels(chosen, "train")
    count = len(train)
    stream = np.concatenate(first(data.load(chosen, "train"), 2 * count // 100 + 1))
    images = np.floor(stream * 16).astype(np.uint8)
    epochs = [images[:count], images[count:2 * count]]
    want = sorted(image.tobytes() for image in train)
    assert all(sorted(image.tobytes() for image in epoch) == want for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], train)


@pytest.mark.fast(but=["mnist5k"])
@pytest.mark.parametrize("name", ["mnist5k", "moons"])
def test_a_stream_begun_later_is_the_rest_of_the_stream(name):
    chosen = settings(f"--data={name}", "--batchsize=32")
    whole, rest = first(data.load(chosen, "train"), 150), first(data.load(chosen, "train", 140), 10)
    np.testing.assert_array_equal(whole[140:], rest)
    other = first(data.load(settings(f"--data={name}", "--batchsize=32", "--seed=1"), "train"), 1)
    assert not np.array_equal(other[0], whole[0])


def test_evaluation_sees_the_same_noise_every_time_and_training_fresh_noise():
    chosen = settings("--data=digits", "--nbits=4", "--batchsize=100")
    one, two = (np.concatenate(first(data.load(chosen, "test"), 9)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert len(one) == data.describe(chosen).counts["test"] == 180
    noise = {split: np.concatenate(first(data.load(chosen, split), 5)) * 16 % 1
             for split in ("train", "test")}
    apart = np.abs(noise["train"][:, None] - noise["test"]).reshape(500, 180, -1).max(axis=2)
    assert apart.min() > 0.1  # no image of the one has the noise of an image of the other


def test_variational_noise_is_not_that_of_the_data():
    chosen = settings("--data=digits", "--nbits=4", "--dequantise=variational")
    for split in ("train", "test"):
        batch = first(data.load(chosen, split), 1)[0]
        assert batch.dtype == np.float32 and np.array_equal(batch, np.floor(batch))
    np.testing.assert_array_equal(batch, data.levels(chosen, "test")[:len(batch)])
    assert batch.max() == 15


@pytest.mark.parametrize("nbits", range(1, 9))
def test_levels_have_bins_of_their_own(nbits):
    """The reference's 5-bit noise makes bins overlap: 0.046 bits/dim too good."""
    levels = tf.range(256, dtype=tf.int32) // 2 ** (8 - nbits)
    np.testing.assert_array_equal(pipeline.quantize(tf.range(256), nbits), levels)
    for noise in (0.0, 0.5, np.float32(1) - np.float32(2) ** -24):
        x = pipeline.dequantize(levels, tf.fill([256], tf.constant(noise, tf.float32)), nbits)
        assert x.dtype == tf.float32
        assert np.all((x >= 0) & (x < 1))
        np.testing.assert_array_equal(np.floor(x.numpy() * 2 ** nbits), levels)


def test_noise_is_uniform():
    chosen = settings("--data=mnist5k", "--batchsize=64")
    noise = np.concatenate(first(data.load(chosen, "train"), 8)) * 256 % 1
    counts, _ = np.histogram(noise, 10, (0, 1))
    spread = np.sqrt(noise.size * 0.1 * 0.9)
    assert np.all(np.abs(counts - noise.size / 10) < 5 * spread)
    assert np.abs(np.corrcoef(noise.reshape(len(noise), -1)[:, :2].T)[0, 1]) < 0.2


@pytest.mark.parametrize("name", toy.TOYS)
def test_toy_densities_are_centred_and_of_unit_order(name):
    x = toy.TOYS[name](20000, [1, 2]).numpy()
    assert x.shape == (20000, 2) and np.all(np.isfinite(x))
    assert np.all(np.abs(x.mean(axis=0)) < 0.5) and np.all((0.7 < x.std(0)) & (x.std(0) < 3))
    assert np.abs(x).max() < 8
    assert not np.array_equal(x, toy.TOYS[name](20000, [1, 3]))


def test_checkerboard_is_uniform_on_its_squares():
    x = toy.TOYS["checkerboard"](40000, [0, 5]).numpy() / 2
    squares = np.floor(x).astype(int)
    kinds, counts = np.unique(squares, axis=0, return_counts=True)
    assert len(kinds) == 8 and len({(a + b) % 2 for a, b in kinds}) == 1
    assert np.all(np.abs(counts - 5000) < 5 * np.sqrt(5000 * 7 / 8))


def test_histogram_by_hand():
    """One pixel, two levels, three of four images at level 1; smoothing pulls to one half."""
    train = np.array([1, 1, 1, 0], np.uint8).reshape(4, 1)
    bits, stderr = data.histogram_bits_per_dim([train[:1], train[1:]], [train],
                                               [np.array([[1], [0]], np.uint8)], 1)
    alpha = 1e-3  # validated on the training images themselves: the least is best
    p = (3 + alpha) / (4 + 2 * alpha)
    assert bits == pytest.approx(-(np.log2(p) + np.log2(1 - p)) / 2, rel=1e-9)
    assert stderr == pytest.approx(abs(np.log2(p) - np.log2(1 - p)) / 2, rel=1e-9)


def test_histogram_of_mnist5k():
    chosen = settings()
    parts = [list(data.level_chunks(chosen, s)) for s in ("train", "validation", "test")]
    assert 1.65 < data.histogram_bits_per_dim(*parts, 8)[0] < 1.80


@pytest.mark.parametrize("name, shape", [("mnist", (28, 28)), ("cifar10", (32, 32, 3))])
def test_downloaded(monkeypatch, name, shape):
    """The real loader, with the download replaced: no network here."""
    def load_data():
        images = np.arange(30, dtype=np.uint8).reshape(30, *[1] * len(shape))
        labels = np.arange(30).reshape(30, *[1] * (len(shape) - 2)) % 10
        return ((images * np.ones(shape, np.uint8), labels),
                (images[:5] * np.ones(shape, np.uint8), labels[:5]))

    pipeline._open_once.cache_clear()
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    labelled = data.describe(settings(f"--data={name}", "--conditional"))
    for split in ("train", "test"):  # an image of value i has the label i
        images, contexts = (fetch[split](range(3)) for fetch in (
            labelled.fetch, labelled.fetch_context))
        values = images.numpy().reshape(3, -1)[:, 0]
        np.testing.assert_array_equal(np.argmax(contexts, axis=1), values % 10)
    source = data.describe(settings(f"--data={name}"))
    assert source.counts == {"train": 27, "validation": 3, "test": 5}
    assert source.event_shape == (*shape, 1)[:3]

    def fail():
        raise Exception("URL fetch failure")

    pipeline._open_once.cache_clear()
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", fail)
    with pytest.raises(OSError, match=f"--data={name} could not be downloaded .*--data=mnist5k"):
        data.describe(settings(f"--data={name}"))


def test_more_bits_than_the_source_has():
    with pytest.raises(ValueError, match="--nbits must be at most 4 for --data=digits"):
        data.load(settings("--data=digits"), "train")


def test_a_size_that_the_source_has_not():
    with pytest.raises(ValueError, match="--imagesize must be 0 or 8 for --data=digits"):
        data.describe(settings("--data=digits", "--nbits=4", "--imagesize=28"))
    data.describe(settings("--data=digits", "--nbits=4", "--imagesize=8"))
