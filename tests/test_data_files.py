"""Data of users: folders of images, arrays, tables; and what is wrong with them, said clearly."""

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.test_data import first, settings
from tests.test_data_formats import save_records
from train import data
from train.settings import FILES


def write_images(folder, count, size=(12, 10), mode="RGB", suffix="png", seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.RandomState(seed)
    for i in range(count):
        pixels = rng.randint(0, 256, (*size, *([3] if mode == "RGB" else []))).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i:03}.{suffix}")


def folder_settings(path, *given):
    return settings("--data=folder", f"--dataroot={path}", "--batchsize=4", *given)


@pytest.mark.fast("crop-L-png-1", "resize-RGB-jpg-3")
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


@pytest.mark.parametrize("turned", [False, True], ids=["wide", "tall"])
def test_crop_cuts_the_long_side_and_resize_squeezes_it(tmp_path, turned):
    image = np.repeat([[0, 90, 170, 255]], 8, 0).repeat(4, 1).astype(np.uint8)  # 8x16, in stripes
    for i in range(20):
        PIL.Image.fromarray(image.T if turned else image).save(tmp_path / f"{i}.png")
    for mode, columns in (("crop", [90, 90, 170, 170]), ("resize", [0, 90, 170, 255])):
        read = data.levels(folder_settings(tmp_path, "--imagesize=4", f"--resize_mode={mode}"),
                           "test")[0, ..., 0]
        np.testing.assert_array_equal(read.T if turned else read, [columns] * 4)


@pytest.mark.parametrize("given", [["--resize_mode=none"], []], ids=["none", "default"])
def test_folder_without_resizing_keeps_the_pixels(tmp_path, given):
    write_images(tmp_path, 20)
    chosen = folder_settings(tmp_path, *given)
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
    ({"train": np.zeros([9, 2]), "test": np.zeros([9, 3])}, r"examples of one kind and shape"),
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
    np.savez_compressed(tmp_path / "x.npz", np.random.RandomState(0).rand(50, 3))
    whole = (tmp_path / "x.npz").read_bytes()
    for broken in (whole[:500], whole[:300] + b"\0" * 100 + whole[400:]):
        (tmp_path / "x.npz").write_bytes(broken)
        with pytest.raises(ValueError, match="not a readable .npz or .npy file"):
            data.describe(array_settings(tmp_path / "x.npz"))


def grown(kind, folder, count):
    """Settings of `count` examples in files of this kind, which were fewer before."""
    rows = np.random.RandomState(0).randn(count, 2)
    if kind == "folder":
        write_images(folder, count)
        return folder_settings(folder)
    if kind == "array":
        np.save(folder / "x.npy", rows)
        return array_settings(folder / "x.npy")
    if kind == "tfrecords":
        images = np.random.RandomState(0).randint(0, 256, (count, 4, 4, 3)).astype(np.uint8)
        save_records(images, folder / "x.tfrecords")
        return settings("--data=tfrecords", f"--dataroot={folder / 'x.tfrecords'}", "--batchsize=4")
    np.savetxt(folder / "x.csv", rows, delimiter=",")
    return csv_settings(folder / "x.csv")


@pytest.mark.parametrize("kind", FILES)
def test_files_that_changed_are_read_anew_but_within_a_run(kind, tmp_path):
    def count():
        return sum(data.describe(chosen).counts.values())

    chosen = grown(kind, tmp_path, 20)
    with data.kept():
        assert count() == 20
        grown(kind, tmp_path, 30)
        assert count() == 20
    assert count() == 30
    with data.kept():
        assert count() == 30


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
    assert source.scaler.log_scale == pytest.approx(np.log(3.0) + np.log(0.1), abs=0.25)


def test_a_first_row_that_says_a_number_twice_is_a_row(tmp_path):
    (tmp_path / "x.csv").write_text("0.5,0.5\n" + "".join(f"{i},{i * i}\n" for i in range(29)))
    assert sum(data.describe(csv_settings(tmp_path / "x.csv")).counts.values()) == 30


@pytest.mark.parametrize("text, message", [
    ("a,b\n1,2\n3,NaN\n", r"line 3, column 'b' must be a finite number. Received: 'NaN'"),
    ("1,2\n3,inf\n", r"line 2, the 2nd column must be a finite number. Received: 'inf'"),
    ("a,b\n1,red\n", r"line 2, column 'b' must be a finite number. Received: 'red'"),
    ("a,b\n1,\n", r"line 2, column 'b' must be a finite number. Received: ''"),
    ("a,b\n" + "1,2\n3,2\n" * 20, r"column 'b' is constant"),
    ("", r"not a readable .csv file"),
    ("a,b\n1,2,3\n", r"Expected 2 fields in line 2, saw 3"),
])
def test_bad_csv(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.describe(csv_settings(tmp_path / "x.csv"))
