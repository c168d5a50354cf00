"""Arrays as people save them: taken for what they are, or one line that says what to do."""

import numpy as np
import pytest
import tensorflow as tf

from tests.test_data import settings
from train import data

RNG = np.random.RandomState(0)
IMAGES = RNG.randint(0, 256, (30, 8, 8, 3)).astype(np.uint8)
VECTORS = RNG.randn(30, 2)


def described(path, *given):
    return data.describe(settings("--data=array", f"--dataroot={path}", "--batchsize=4", *given))


def part(source, split):
    return source.fetch[split](tf.range(source.counts[split])).numpy()


def whole(source):
    return sorted(np.concatenate([part(source, s) for s in source.counts]).tolist())


@pytest.mark.parametrize("names", [
    ("train", "val", "test"), ("train", "valid", "test"), ("x_train", "x_val", "x_test"),
    ("train_images", "val_images", "test_images"), ("X_train", "X_valid", "X_test")])
def test_parts_by_their_names(tmp_path, names, capsys):
    arrays = dict(zip(names, (VECTORS, VECTORS[:5] + 1, VECTORS[:7] + 2)))
    np.savez(tmp_path / "x.npz", **arrays)
    source = described(tmp_path / "x.npz")
    assert source.counts == {"train": 30, "validation": 5, "test": 7}
    for split, array in zip(("train", "validation", "test"), arrays.values()):
        np.testing.assert_array_equal(part(source, split), array.astype(np.float32))
    assert not capsys.readouterr().err


def test_the_file_of_mnist_that_keras_keeps(tmp_path, capsys):
    grey = IMAGES[..., 0]
    np.savez(tmp_path / "mnist.npz", x_train=grey, y_train=np.arange(30), x_test=grey[:9],
             y_test=np.arange(9))
    source = described(tmp_path / "mnist.npz")
    assert source.event_shape == (8, 8, 1)
    assert source.counts == {"train": 27, "validation": 3, "test": 9}
    assert "left out: y_test, y_train" in capsys.readouterr().err


def test_labels_beside_one_array_are_left_out(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=np.arange(30))
    assert whole(described(tmp_path / "x.npz")) == sorted(IMAGES.tolist())
    assert "left out: labels" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8, np.float32, np.float64, ">i4"])
def test_whole_numbers_are_levels(tmp_path, dtype):
    images = (IMAGES // 2).astype(dtype)
    np.save(tmp_path / "x.npy", images)
    source = described(tmp_path / "x.npy")
    assert source.kind == "image" and whole(source) == sorted((IMAGES // 2).tolist())


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_are_turned(tmp_path, channels, capsys):
    images = IMAGES[..., :channels]
    np.save(tmp_path / "x.npy", images.transpose(0, 3, 1, 2))
    source = described(tmp_path / "x.npy")
    assert source.event_shape == (8, 8, channels) and whole(source) == sorted(images.tolist())
    assert "is taken as [n, C, H, W]" in capsys.readouterr().err


@pytest.mark.parametrize("array, message", [
    (IMAGES / np.float32(255), r"float32 \[30, 8, 8, 3\]. Images in \[0, 1\] are numpy.round"),
    (IMAGES - 128.5, r"levels of images are whole numbers from 0 to 255"),
    (IMAGES.astype(int) * 2, r"levels of images are whole numbers from 0 to 255"),
    (IMAGES > 99, r"bool \[30, 8, 8, 3\]. The levels of images are"),
    (IMAGES[0], r"uint8 \[8, 8, 3\], which looks like one image in colour"),
    (IMAGES.reshape(30, -1), r"uint8 \[30, 192\]. Images are \[n, H, W\] or"),
    (VECTORS > 0, r"bool \[30, 2\].* whole numbers have no density: add noise"),
    (VECTORS[:, 0], r"float64 \[30\]. One number an example is \[n, 1\]: array\[:, None\]"),
    (VECTORS.astype(complex), r"Found array: complex128 \[30, 2\]"),
    (np.stack([VECTORS[:, 0], np.full(30, 0.1)], 1), r"the 2nd column is constant: it has no dens"),
    (VECTORS + [0, 1e9], r"the 2nd column has values to 1e\+09 and a standard deviation of "),
    (np.float32(VECTORS + [0, 1e6]), r"the 2nd column has .* and float32 has steps of 0.06 there"),
    (VECTORS * [1, 1e39], r"the 2nd column has values to .*Standardise it first"),
    (VECTORS.astype(object), r"holds objects of Python.* Save numbers: array.astype\(float\)"),
    (np.zeros([0, 2]), r"are too few")])
def test_what_no_density_can_be_of(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=message):
        described(tmp_path / "x.npy")


def test_vectors_are_taken_as_they_are(tmp_path):
    rows = VECTORS * [3, 0.01] + [1e4, -7]
    np.save(tmp_path / "x.npy", rows)
    assert whole(described(tmp_path / "x.npy")) == sorted(rows.astype(np.float32).tolist())


@pytest.mark.parametrize("arrays, message", [
    ({"train": IMAGES, "test": VECTORS}, r"of one kind and shape. Found .*test: float64 \[30, 2\]"),
    ({"train": VECTORS, "val": VECTORS}, r"Found arrays named train, val"),
    ({"train": VECTORS, "val": VECTORS, "validation": VECTORS, "test": VECTORS},
     r"Found arrays named test, train, val, validation"),
    ({"labels": VECTORS}, r"Found arrays named labels"), ({}, r"Found arrays named nothing")])
def test_arrays_that_are_no_parts(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        described(tmp_path / "x.npz")


def test_a_part_of_another_dtype(tmp_path):
    """Levels of one part are uint8, of the other int64; vectors float32 and float64."""
    np.savez(tmp_path / "x.npz", train=IMAGES, test=IMAGES[:9].astype(np.int64))
    np.testing.assert_array_equal(part(described(tmp_path / "x.npz"), "test"), IMAGES[:9])
    np.savez(tmp_path / "y.npz", train=VECTORS, test=VECTORS[:9].astype(np.float32))
    assert part(described(tmp_path / "y.npz"), "test").dtype == np.float32


def test_channels_that_say_nothing(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.concatenate([IMAGES, np.full_like(IMAGES[..., :1], 255)], 3))
    described(tmp_path / "x.npy")
    assert "channel 3 of 24 images is constant" in capsys.readouterr().err
    np.save(tmp_path / "y.npy", IMAGES[..., :1].repeat(3, 3))
    described(tmp_path / "y.npy")
    assert "the 3 channels of 24 images are equal" in capsys.readouterr().err


def test_labels_that_are_objects_are_in_nobodys_way(tmp_path):
    np.savez(tmp_path / "x.npz", x=VECTORS, y=np.array(["a", None] * 15, object))
    assert described(tmp_path / "x.npz").counts["train"] == 24
