"""Data sets of the paper from files of every kind: the same pixels, in the same stream."""

import pickle
import struct

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.test_data import first, settings
from train import data
from train.data import array_file, published
from train.data.pipeline import quantize
from train.files import fingerprint
from train.main import main
from train.reference import Checkpoint, write

RANDOM = np.random.RandomState(0)
TRAIN, VALID = (RANDOM.randint(0, 256, (n, 32, 32, 3)).astype(np.uint8) for n in (17, 5))


def save_old(array, path):
    """As `torch.save` of a tensor before PyTorch 1.6."""
    def long(n):
        return b"J" + struct.pack("<i", n)

    shape = b"(" + b"".join(map(long, array.shape)) + b"t"
    strides = b"(" + b"".join(long(s) for s in array.strides) + b"t"
    tensor = (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"
              b"ctorch\nByteStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpu" + long(array.size)
              + b"NtQK\x00" + shape + strides + b"\x89ccollections\nOrderedDict\n)RtR.")
    begin = [pickle.dumps(value, 2) for value in (0x1950a86a20f9469cfc6c, 1001, {
        "little_endian": True})]
    path.write_bytes(b"".join([*begin, tensor, pickle.dumps(["a"], 2),
                               struct.pack("<q", array.size), array.tobytes()]))


def save_records(images, path, **wrong):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for image in images:
            features = {"shape": tf.train.Feature(int64_list={"value": image.shape}),
                        "data": tf.train.Feature(bytes_list={"value": [image.tobytes()]}),
                        "label": tf.train.Feature(int64_list={"value": [7]}), **wrong}
            writer.write(tf.train.Example(
                features=tf.train.Features(feature=features)).SerializeToString())


def channels_first(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def as_npy(root):
    np.save(root / "train_32x32.npy", TRAIN)
    np.save(root / "valid_32x32.npy", VALID)


def as_pth(root):
    write(channels_first(TRAIN), root / "train_32x32.pth")
    write(channels_first(VALID), root / "valid_32x32.pth")


def as_old_pth(root):
    save_old(channels_first(TRAIN), root / "celeba_train.pth")
    save_old(channels_first(VALID), root / "celeba_validation.pt")


def as_batches(root, save=np.savez):
    """As the newer downsampled ImageNet is published."""
    for name, images in (("train_data_batch_1", TRAIN[:9]), ("train_data_batch_2", TRAIN[9:]),
                         ("val_data", VALID)):
        rows = channels_first(images).reshape(len(images), -1)
        save(root / f"{name}.npz", data=rows, labels=np.arange(len(rows)), mean=rows.mean(0))


def as_packed_batches(root):
    as_batches(root, np.savez_compressed)


def as_records(root):
    """As the preprocessing of Glow, two files of a part, and another resolution beside them."""
    for folder, images in (("train", TRAIN), ("validation", VALID)):
        (root / folder).mkdir()
        for i, begin in enumerate((0, 3)):
            end = None if i else 3
            save_records(images[begin:end],
                         root / folder / f"{folder}-r05-s-{i:04}-of-0002.tfrecords")
        save_records(images[:, ::2, ::2], root / folder / f"{folder}-r04-s-0000-of-0001.tfrecords")


def as_images(root):
    for folder, images in (("train", TRAIN), ("test", VALID)):
        (root / folder).mkdir()
        for i, image in enumerate(images):
            PIL.Image.fromarray(image).save(root / folder / f"{i:02}.png")


FORMATS = {"npy": as_npy, "pth": as_pth, "old pth": as_old_pth, "batches": as_batches,
           "packed batches": as_packed_batches, "records": as_records, "images": as_images}


def chosen(root, *given, name="imagenet32"):
    return settings(f"--data={name}", f"--dataroot={root}", "--batchsize=4", "--imagesize=0",
                    *given)


@pytest.fixture(params=["in memory", "mapped"])
def large(request, monkeypatch):
    if request.param == "mapped":
        monkeypatch.setattr(array_file, "LARGE", 0)
    return request.param


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_pixels_in_the_same_stream(kind, large, tmp_path):
    (root := tmp_path / "own").mkdir()
    FORMATS[kind](root)
    own = chosen(root, "--random_flip")
    assert data.describe(own).counts == {"train": 15, "validation": 2, "test": 5}
    np.testing.assert_array_equal(data.levels(own, "test"), VALID)
    cut = np.random.RandomState(0).permutation(17)
    np.testing.assert_array_equal(data.levels(own, "validation"), TRAIN[cut[15:]])
    np.testing.assert_array_equal(data.levels(own, "train"), TRAIN[cut[:15]])
    np.savez(tmp_path / "whole.npz", train=TRAIN, test=VALID)
    whole = chosen(tmp_path / "whole.npz", "--random_flip")
    np.testing.assert_array_equal(first(data.load(own, "train"), 8), first(
        data.load(whole, "train"), 8))


@pytest.mark.parametrize("suffix", ["npy", "pth", "pt", "npz", "tfrecords"])
def test_one_file_is_parted_by_the_seed(suffix, large, tmp_path):
    path = tmp_path / f"x.{suffix}"
    {"npy": np.save, "npz": np.savez}.get(
        suffix, lambda path, images: write(channels_first(images), path))(
        path, TRAIN) if suffix != "tfrecords" else save_records(TRAIN, path)
    own = chosen(path)
    assert data.describe(own).counts == {"train": 13, "validation": 2, "test": 2}
    parts = np.concatenate([data.levels(own, s) for s in ("train", "validation", "test")])
    np.testing.assert_array_equal(parts, TRAIN[np.random.RandomState(0).permutation(17)])


def test_what_is_large_stays_in_its_file(tmp_path, monkeypatch):
    """Bytes that change there change here: nothing has been read before."""
    monkeypatch.setattr(array_file, "LARGE", 0)
    for kind in ("npy", "pth", "old pth", "batches"):
        (root := tmp_path / kind).mkdir()
        FORMATS[kind](root)
        for path in root.iterdir():
            [array] = array_file.read_arrays(path, lambda names: {"x": "data"}).values()
            begin = path.read_bytes().find(array.tobytes()[:64])
            with open(path, "r+b") as file:
                file.seek(begin)
                file.write(bytes(64))
            assert begin > 0 and array.ravel()[:64].max() == 0 < array.ravel()[64:128].max(), kind


def test_flips(tmp_path):
    """Half of the training images, others each epoch; none of the test."""
    stripes = np.broadcast_to(np.arange(0, 256, 32, dtype=np.uint8)[:, None], (20, 8, 8, 1))
    np.savez(tmp_path / "x.npz", train=stripes + np.uint8(1), test=stripes + np.uint8(1))
    own = settings("--data=array", f"--dataroot={tmp_path / 'x.npz'}", "--batchsize=18",
                   "--random_flip", "--noadd_noise", "--val_fraction=0.1")
    batches = np.floor(np.array(first(data.load(own, "train"), 40)) * 256).astype(int)
    begins = batches[:, :, 0, 0, 0]
    assert set(begins.ravel()) == {1, 225}
    share = (begins == 225).mean()
    assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(begins.size)
    assert len({tuple(row) for row in begins}) == 40
    np.testing.assert_array_equal(data.levels(own, "test"), stripes + np.uint8(1))
    again = np.array(first(data.load(own, "train", 30), 10))
    np.testing.assert_array_equal(np.floor(again * 256).astype(int), batches[30:])


def test_bits_are_those_of_the_reference():
    """Of 8 bits it takes `floor(255 x / 8)` of x = level / 255 in float32."""
    level = np.arange(256)
    wanted = np.floor(np.float32(level) / np.float32(255) * np.float32(255) / 8)
    np.testing.assert_array_equal(quantize(level, 5), wanted)


@pytest.mark.parametrize("stored", [5, 8])
def test_celeba_of_5_bits(stored, tmp_path):
    """Whether levels are stored as 0 to 31 or in 8 bits."""
    levels = RANDOM.randint(0, 32, (20, 3, 64, 64)).astype(np.uint8)
    images = levels if stored == 5 else levels * 8 + RANDOM.randint(0, 8, levels.shape)
    write(images.astype(np.uint8), tmp_path / "celeba_full_64x64_5bit.pth")
    own = chosen(tmp_path, "--nbits=5", name="celeba_5bit")
    order = np.random.RandomState(0).permutation(20)
    np.testing.assert_array_equal(data.levels(own, "test"),
                                  levels.transpose(0, 2, 3, 1)[order[18:]])
    [batch] = first(data.load(own, "train"), 1)
    assert batch.min() >= 0 and 0.95 < batch.max() < 1
    eight = chosen(tmp_path, "--nbits=8", name="celeba_5bit")
    if stored == 8:
        assert data.describe(eight).nbits == 8
    else:
        with pytest.raises(ValueError, match="--nbits must be at most 5 for --data=celeba_5bit"):
            data.describe(eight)


def test_the_two_downsampled_imagenets(tmp_path, capsys, monkeypatch):
    as_npy(tmp_path)
    data.describe(chosen(tmp_path))
    assert "17 and 5 images: neither the older" in capsys.readouterr().err
    for counts, said in zip(published._VERSIONS, ("the older downs", "the newer downsampled")):
        monkeypatch.setattr(published, "_VERSIONS", {(17, 5): published._VERSIONS[counts]})
        data.describe(chosen(tmp_path))
        assert f"17 and 5 images: {said}" in capsys.readouterr().err
        monkeypatch.undo()


def broken(make, change):
    def made(root):
        make(root)
        change(root)

    return made


def cut(name, count):
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-count])


FLAT = tf.train.Feature(int64_list={"value": [32, 32]})
SHARD = "train/train-r05-s-0001-of-0002.tfrecords"
BAD = {
    "a record ends": (broken(as_records, cut(SHARD, 50)), f"{SHARD}: it ends within record 13"),
    "a missing file": (broken(as_records, lambda root: (root / SHARD).unlink()),
                       "train-r05-s-0001-of-0002.tfrecords is missing: there are 1 of 2"),
    "no records": (broken(as_records, lambda root: (root / SHARD).write_bytes(b"hello, all " * 9)),
                   f"{SHARD}: it ends within record 0, or is no TFRecord"),
    "other features": (lambda root: save_records(TRAIN, root / "x.tfrecords", shape=FLAT),
                       "x.tfrecords: record 0 must have `shape`, H, W and C"),
    "another side": (lambda root: save_records(TRAIN[:, :8, :8], root / "x.tfrecords"),
                     r"has examples of [8, 8, 3], and --data=imagenet32 is of [32, 32, 3]"),
    "grey": (lambda root: np.save(root / "x.npy", TRAIN[..., 0]), "has examples of [32, 32, 1]"),
    "floats": (lambda root: np.save(root / "x.npy", TRAIN / 255), "x.npy: expected uint8 images"),
    "a short pth": (broken(as_old_pth, cut("celeba_train.pth", 9)),
                    "train.pth is not read: it ends"),
    "a dictionary": (lambda root: write({"state_dict": {"x": TRAIN}}, root / "x.pth"),
                     "x.pth: expected a tensor, or a dictionary of tensors. Found dict"),
    "one part": (lambda root: np.save(root / "train.npy", TRAIN), "expected a training part and a "
                 "test or validation part, or files of no part at all. Found train"),
    "a file of no part": (broken(as_npy, lambda root: np.save(root / "more.npy", VALID)),
                          "more.npy: no word of train, validation or test in its name"),
    "two words": (lambda root: np.save(root / "train_test.npy", TRAIN), "Found test, train"),
    "two sides": (broken(as_npy, lambda root: np.save(root / "train_2.npy", TRAIN[:, :8])),
                  "images of [32, 32, 3], and those of other files"),
    "nothing": (lambda root: None, "no images in it"),
    "a table": (lambda root: (root / "x.csv").write_text("1,2\n" * 30), "no images in it")}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_with_the_name_of_the_file(case, tmp_path):
    make, message = BAD[case]
    make(tmp_path)
    with pytest.raises((ValueError, OSError)) as caught:
        data.describe(chosen(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_several_resolutions(tmp_path):
    as_records(tmp_path)
    with pytest.raises(ValueError, match="--imagesize must be one of 16, 32. Received: --images"):
        data.describe(settings("--data=tfrecords", f"--dataroot={tmp_path}"))
    of_16 = settings("--data=tfrecords", f"--dataroot={tmp_path}", "--imagesize=16")
    np.testing.assert_array_equal(data.levels(of_16, "test"), VALID[:, ::2, ::2])


def test_a_record_that_is_damaged_is_named_by_the_command(tmp_path, capsys):
    """Of one in the middle, that training meets: a line, not a traceback."""
    path = tmp_path / "x.tfrecords"
    save_records(np.repeat(TRAIN, 3, 0)[:, ::4, ::4], path)
    content = bytearray(path.read_bytes())
    size = len(content) // 51
    for i in range(1, 50):
        content[i * size + 12:i * size + 16] = b"\xff" * 4
    path.write_bytes(content)
    assert main(["x", "--data=tfrecords", f"--dataroot={path}", "--flagfile=configs/smoke.cfg",
                 f"--workdir={tmp_path / 'run'}", "--data=tfrecords", "--nbits=8"]) == 2
    error = capsys.readouterr().err
    assert f"{path}: record 1 is damaged" in error and "Traceback" not in error


def test_fingerprints_of_large_files(tmp_path, monkeypatch):
    """Their size and pieces of them; of small ones all."""
    path = tmp_path / "x"
    path.write_bytes(b"a" * 100)
    small = fingerprint(path)
    monkeypatch.setattr("train.files._LARGE", 10)
    path.write_bytes(b"a" * 2 ** 20)
    large = fingerprint(path)
    path.write_bytes(b"a" * (2 ** 20 - 1) + b"b")
    assert len({small, large, fingerprint(path)}) == 3


def test_a_tensor_is_mapped_with_its_strides(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    write({"a": np.zeros(3, np.float32), "b": array}, tmp_path / "x.pth")
    with Checkpoint(tmp_path / "x.pth") as checkpoint:
        mapped = checkpoint.content["b"].mapped()
    np.testing.assert_array_equal(mapped, array)
    assert not mapped.flags.writeable
