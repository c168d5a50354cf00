"""Files given to the wrong --data: one line that names the right one, or what to do."""

import os
import pickle
import zipfile

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from tests.test_data import settings
from tests.test_data_formats import save_records
from train import data
from train import reference as pth
from train.settings import FILES

ROWS = np.random.RandomState(0).randn(30, 2)
ARRAY = "a .npy, .npz or .pth file or a folder of them"
PIXELS = np.random.RandomState(0).randint(0, 256, (20, 4, 4, 3)).astype(np.uint8)


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"x")


def images(path):
    (path / "a").mkdir(parents=True)
    for i in range(20):
        PIL.Image.fromarray(np.full([4, 4], 9 * i, np.uint8)).save(path / "a" / f"{i}.png")


def write(content):
    return lambda path: path.write_bytes(content)


def table(**kwargs):
    return lambda path: pd.DataFrame(ROWS).to_csv(path, **kwargs)


KINDS = {  # what is written, what it is, and the --data that reads it or else an advice
    "x.csv": (table(index=False, header=["a", "b"]), "a table of text", "csv"),
    "x.tsv": (table(index=False, sep="\t", header=["a", "b"]), "a table of text", "csv"),
    "utf16": (table(index=False, header=["a", "b"], encoding="utf-16"), "a table of text", "csv"),
    "x.csv.gz": (table(index=False, header=["a", "b"]), "a table of text", "csv"),
    "y.csv.zip": (table(index=False, header=["a", "b"]), "a table of text", "csv"),
    "x.npy": (lambda path: np.save(path, ROWS), ARRAY, "array"),
    "x.npz": (lambda path: np.savez(path, ROWS), ARRAY, "array"),
    "images": (images, "a folder of images", "folder"),
    "x.png": (lambda path: PIL.Image.fromarray(np.eye(4) > 0).save(path), "an image",
              "give the folder of all images to --data=folder"),
    "picture": (lambda path: PIL.Image.fromarray(np.eye(4) > 0).save(path, "png"), "an image",
                "give the folder"),
    "x.pkl": (write(pickle.dumps(ROWS)), "a pickle", "save an array of numbers by numpy.save"),
    "x.xlsx": (lambda path: zipped(path, "[Content_Types].xml"), "a spreadsheet",
               "save it as .csv"),
    "x.pth": (lambda path: pth.write(ROWS, path), ARRAY, "array"),
    "x.tfrecords": (lambda path: save_records(PIXELS, path), "a TFRecord file or a folder of them",
                    "tfrecords"),
    "arrays": (lambda path: (path.mkdir(), np.save(path / "a.npy", PIXELS)),
               ARRAY, "array"),
    "x.parquet": (write(b"PAR1\0\1"), "a Parquet file", "save it as .csv"),
    "x.h5": (write(b"\x89HDF\r\n\x1a\n"), "an HDF5 file", "save an array of it"),
    "x.tar.xz": (write(b"\xfd7zXZ\0"), "an archive", "unpack it"),
    "x.7z": (write(b"7z\xbc\xaf\x27\x1c"), "an archive", "unpack it"),
    "pipe": (os.mkfifo, "neither a file nor a folder", "save it to a file"),
    "x.bin": (write(b"\0\1\2"), "neither of text, nor a .npy or .npz file, nor an image", "")}


@pytest.mark.parametrize("given", FILES)
@pytest.mark.parametrize("name", KINDS)
def test_what_a_file_is(name, given, tmp_path):
    make, what, right = KINDS[name]
    make(tmp_path / name)
    chosen = settings(f"--data={given}", f"--dataroot={tmp_path / name}", "--batchsize=4")
    if right == given:
        assert sum(data.describe(chosen).counts.values()) in (20, 30)
        return
    with pytest.raises(ValueError) as caught:
        data.describe(chosen)
    message = str(caught.value)
    assert message.startswith(f"--dataroot={tmp_path / name} is {what}, and --data={given} reads ")
    assert (f": give --data={right}" if right in FILES else right) in message
    assert "\n" not in message


@pytest.mark.parametrize("given, message", [
    ("array", "is a folder without images, and --data=array reads a .npy, .npz or .pth file or a"),
    ("csv", "is a folder without images, and --data=csv reads a table of text: name a file"),
    ("folder", "no images in it")])
def test_a_folder_without_images(given, message, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "notes.txt").touch()
    with pytest.raises(ValueError, match=message):
        data.describe(settings(f"--data={given}", f"--dataroot={tmp_path / 'x'}"))


@pytest.mark.parametrize("given", FILES)
def test_nothing_there(given, tmp_path):
    with pytest.raises(OSError, match=f"{tmp_path}/x: no such .* .seen from "):
        data.describe(settings(f"--data={given}", f"--dataroot={tmp_path / 'x'}"))
