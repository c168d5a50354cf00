"""Data: parts that share nothing, streams that resume, levels that do not overlap, clear errors."""

import itertools

import keras
import numpy as np
import PIL.Image
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


def test_eight_gaussians_entropy_is_that_of_its_samples():
    entropy = data.describe(settings("--data=8gaussians")).entropy
    log_p = toy.eight_gaussians_log_prob(toy.TOYS["8gaussians"](40000, [0, 5]).numpy())
    assert abs(-log_p.mean() - entropy) < 4 * log_p.std() / 200
    assert 2.82 < entropy < 2.85


def test_checkerboard_is_uniform_on_its_squares():
    x = toy.TOYS["checkerboard"](40000, [0, 5]).numpy() / 2
    squares = np.floor(x).astype(int)
    kinds, counts = np.unique(squares, axis=0, return_counts=True)
    assert len(kinds) == 8 and len({(a + b) % 2 for a, b in kinds}) == 1
    assert np.all(np.abs(counts - 5000) < 5 * np.sqrt(5000 * 7 / 8))


def test_histogram_by_hand():
    """One pixel, two levels, three of four images at level 1; smoothing pulls to one half."""
    train = np.array([1, 1, 1, 0], np.uint8).reshape(4, 1)
    bits, stderr = data.histogram_bits_per_dim(train, train, np.array([[1], [0]], np.uint8), 1)
    alpha = 1e-3  # validated on the training images themselves: the least is best
    p = (3 + alpha) / (4 + 2 * alpha)
    assert bits == pytest.approx(-(np.log2(p) + np.log2(1 - p)) / 2, rel=1e-9)
    assert stderr == pytest.approx(abs(np.log2(p) - np.log2(1 - p)) / 2, rel=1e-9)


def test_histogram_of_mnist5k():
    chosen = settings()
    parts = [data.levels(chosen, split) for split in ("train", "validation", "test")]
    assert 1.65 < data.histogram_bits_per_dim(*parts, 8)[0] < 1.80


# Files ------------------------------------------------------------------------------------------


def write_images(folder, count, size=(12, 10), mode="RGB", suffix="png", seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    for i in range(count):
        pixels = rng.randint(0, 256, (*size, *([3] if mode == "RGB" else []))).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:03}.{suffix}")


def folder_settings(path, *given):
    return settings("--data=folder", f"--dataroot={path}", "--batchsize=4", *given)


@pytest.mark.parametrize("mode, suffix, channels", [("RGB", "png", 3), ("L", "png", 1),
                                                    ("RGB", "jpg", 3), ("RGB", "bmp", 3)])
@pytest.mark.parametrize("resize", ["crop", "resize"])
def test_folder(tmp_path, mode, suffix, channels, resize):
    write_images(tmp_path / "a" / "b", 15, mode=mode, suffix=suffix)
    write_images(tmp_path / "c", 5, (20, 30), mode, suffix, seed=1)
    chosen = folder_settings(tmp_path, "--imagesize=8", f"--resize_mode={resize}")
    source = data.describe(chosen)
    assert source.counts == {"train": 16, "validation": 2, "test": 2}
    assert source.event_shape == (8, 8, channels)
    [batch] = first(data.load(chosen, "train"), 1)
    assert batch.shape == (4, 8, 8, channels) and 0.2 < batch.mean() < 0.8
    everything = np.concatenate([data.levels(chosen, s) for s in source.counts])
    assert len({image.tobytes() for image in everything}) == 20


def test_folder_without_resizing_keeps_the_pixels(tmp_path):
    write_images(tmp_path, 20)
    chosen = folder_settings(tmp_path, "--resize_mode=none")
    read = {image.tobytes() for split in ("train", "validation", "test")
            for image in data.levels(chosen, split)}
    assert read == {np.asarray(PIL.Image.open(p)).tobytes() for p in tmp_path.glob("*.png")}


def test_folder_with_its_own_parts(tmp_path):
    for split, count in (("train", 8), ("val", 3), ("test", 4)):
        write_images(tmp_path / split, count)
    chosen = folder_settings(tmp_path)
    assert data.describe(chosen).counts == {"train": 8, "validation": 3, "test": 4}


def mixed(path):
    write_images(path, 6)
    write_images(path / "z", 6, (9, 9))


def corrupt(path):
    write_images(path, 12)
    (path / "004.png").write_bytes(b"not an image")


@pytest.mark.parametrize("make, given, message", [
    (mixed, [], r"z/000.png is 9x9, .*000.png is 12x10: give --imagesize"),
    (mixed, ["--imagesize=9", "--resize_mode=none"], r"000.png is 12x10, --imagesize is 9x9"),
    (corrupt, [], r"004.png: not a readable image"),
    (lambda path: path.mkdir(), [], r"no images in it"),
    (lambda path: None, [], r"no such folder"),
    (lambda path: write_images(path, 2), [], r"2 examples are too few"),
    (lambda path: [write_images(path / "train", 5), (path / "test").mkdir()], [],
     r"no images in its test part"),
    (lambda path: write_images(path, 20), ["--batchsize=99"], r"--batchsize must be at most the"),
    (lambda path: [write_images(path / "train", 5), write_images(path / "test", 1)], [],
     r"the test part must have at least 2 examples"),
])
def test_bad_folders(tmp_path, make, given, message):
    make(tmp_path / "images")
    with pytest.raises((ValueError, OSError), match=message):
        data.load(folder_settings(tmp_path / "images", *given), "train")


def array_settings(path):
    return settings("--data=array", f"--dataroot={path}", "--batchsize=4")


@pytest.mark.parametrize("shape, event_shape", [
    ((40, 6, 5), (6, 5, 1)), ((40, 6, 5, 3), (6, 5, 3))])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_images(tmp_path, shape, event_shape, suffix):
    array = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    path = tmp_path / f"x.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, array)
    source = data.describe(array_settings(path))
    assert (source.kind, source.event_shape) == ("image", event_shape)
    assert source.counts == {"train": 32, "validation": 4, "test": 4}


def test_arrays_of_vectors_with_their_own_parts(tmp_path):
    rng = np.random.RandomState(0)
    np.savez(tmp_path / "x.npz", train=rng.randn(20, 3), test=rng.randn(7, 3))
    chosen = array_settings(tmp_path / "x.npz")
    assert data.describe(chosen).counts == {"train": 18, "validation": 2, "test": 7}
    [batch] = first(data.load(chosen, "train"), 1)
    assert batch.shape == (4, 3) and batch.dtype == np.float32


@pytest.mark.parametrize("arrays, message", [
    ({"a": np.zeros([9, 2, 2], np.float32)}, r"expected uint8 .* Found a: float32 \[9, 2, 2\]"),
    ({"a": np.full([30, 2], np.nan)}, r"a\[0, 0\] is not finite"),
    ({"a": np.zeros([9, 2]), "b": np.zeros([9, 2])}, r"Found arrays named a, b"),
    ({"train": np.zeros([9, 2]), "test": np.zeros([9, 3])}, r"examples of one shape"),
])
def test_bad_arrays(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        data.describe(array_settings(tmp_path / "x.npz"))


def test_missing_and_unreadable_arrays(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        data.describe(array_settings(tmp_path / "x.npz"))
    (tmp_path / "x.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a readable .npz or .npy file"):
        data.describe(array_settings(tmp_path / "x.npy"))


def csv_settings(path):
    return settings("--data=csv", f"--dataroot={path}", "--batchsize=4")


@pytest.mark.parametrize("header", ["a,b\n", ""])
def test_csv_is_standardised_and_the_scale_kept(tmp_path, header):
    rng = np.random.RandomState(0)
    table = rng.randn(200, 2) * [3.0, 0.1] + 7
    path = tmp_path / "x.csv"
    path.write_text(header + "\n".join(f"{a}, {b}" for a, b in table))
    source = data.describe(csv_settings(path))
    train = source.fetch["train"](tf.range(source.counts["train"])).numpy()
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(0), 1, atol=1e-5)
    assert source.counts == {"train": 160, "validation": 20, "test": 20}
    assert source.log_scale == pytest.approx(np.log(3.0) + np.log(0.1), abs=0.25)


@pytest.mark.parametrize("text, message", [
    ("a,b\n1,2\n3,NaN\n", r"line 3, column 'b' must be a finite number. Received: 'NaN'"),
    ("1,2\n3,inf\n", r"line 2, column '2' must be a finite number. Received: 'inf'"),
    ("a,b\n1,red\n", r"line 2, column 'b' must be a finite number. Received: 'red'"),
    ("a,b\n1,\n", r"line 2, column 'b' must be a finite number. Received: ''"),
    ("a,b\n" + "1,2\n3,2\n" * 20, r"column 'b' is constant"),
    ("", r"not a readable .csv file"),
    ("a,b\n1,2,3\n", r"rows have more fields than the header, which has 2"),
])
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.describe(csv_settings(tmp_path / "x.csv"))


@pytest.mark.parametrize("name, shape", [("mnist", (28, 28)), ("cifar10", (32, 32, 3))])
def test_downloaded(monkeypatch, name, shape):
    """The real loader, with the download replaced: no network here."""
    def load_data():
        images = np.arange(30, dtype=np.uint8).reshape(30, *[1] * len(shape))
        return ((images * np.ones(shape, np.uint8), None),
                (images[:5] * np.ones(shape, np.uint8), None))

    pipeline._open.cache_clear()
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)
    source = data.describe(settings(f"--data={name}"))
    assert source.counts == {"train": 27, "validation": 3, "test": 5}
    assert source.event_shape == (*shape, 1)[:3]

    def fail():
        raise Exception("URL fetch failure")

    pipeline._open.cache_clear()
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
