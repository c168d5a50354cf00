"""What a file or folder is that somebody has given, and which --data reads it."""

import os
import zipfile

import PIL.Image

from train.data.array_file import SUFFIXES as ARRAYS
from train.data.image_file import SUFFIXES

__all__ = ["RECORDS", "check_kind", "kind_of"]

RECORDS = (".tfrecords", ".tfrecord", ".tfrec")
_READ = {"folder": "a folder of images", "array": "a .npy, .npz or .pth file or a folder of them",
         "csv": "a table of text",
         "tfrecords": "a TFRecord file or a folder of them"}
_ELSE = {
    "image": ("an image", "give the folder of all images to --data=folder"),
    "sheet": ("a spreadsheet", "save it as .csv, which --data=csv reads"),
    "pickle": ("a pickle", "save an array of numbers by numpy.save, which --data=array reads"),
    "parquet": ("a Parquet file", "save it as .csv, which --data=csv reads"),
    "hdf5": ("an HDF5 file", "save an array of it by numpy.save, which --data=array reads"),
    "archive": ("an archive", "unpack it"),
    "pipe": ("neither a file nor a folder", "save it to a file"),
    "other folder": ("a folder without images", "name a file"),
    "other": ("neither of text, nor a .npy or .npz file, nor an image", "")}
_BEGINNINGS = {b"\x93NUMPY": "array", b"\x89HDF\r\n": "hdf5", b"PAR1": "parquet", b"\x80": "pickle",
               b"\xd0\xcf\x11\xe0": "sheet", b"7z\xbc\xaf": "archive", b"Rar!": "archive"}
_PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_PACKED_TABLES = (".gz", ".bz2", ".zip", ".xz", ".zst")  # pandas unpacks them
_TEXTS = {".csv", ".tsv", ".txt", ".dat"}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b"))


def check_kind(path, data):
    """Nothing if `--data=data` reads what is at `path`, by what it holds.

    Raises:
      FileNotFoundError: there is nothing.
      ValueError: it is of another kind; one line with the --data that reads it, or what to do.
    """
    if not path.exists():
        raise FileNotFoundError(f"--dataroot={path}: no such "
                                f"{'folder' if data == 'folder' else 'file'} (seen from "
                                f"{os.getcwd()})")
    kind = _of_folder(path, data) if path.is_dir() else _of_file(path, data)
    if kind == data:
        return
    what, advice = _ELSE.get(kind) or (_READ[kind], f"give --data={kind}")
    raise ValueError(f"--dataroot={path} is {what}, and --data={data} reads {_READ[data]}"
                     f"{': ' * bool(advice)}{advice}")


def kind_of(path):
    """Which --data reads what is at `path`: "folder", "array", "tfrecords" or "csv".

    Raises:
      FileNotFoundError: there is nothing.
      ValueError: none reads it; one line.
    """
    if path.is_dir():
        return _of_folder(path, "folder")
    kind = _of_file(path, "array" if path.suffix.lower() in ARRAYS else "csv") if (
        path.exists()) else "csv"
    kind = kind if kind in _READ else "csv"
    check_kind(path, kind)
    return kind


def _of_folder(path, data):
    suffixes = {"folder": tuple(SUFFIXES), "array": ARRAYS, "tfrecords": RECORDS}
    found = {kind for *_, names in os.walk(path) for name in names
             for kind, ends in suffixes.items()
             if name.lower().endswith(ends) and not name.startswith(".")}
    if data in found:
        return data
    if not found:
        return data if data == "folder" else "other folder"  # it says what else is in it
    return next(kind for kind in suffixes if kind in found)


def _of_file(path, data):
    if not path.is_file():
        return "pipe"
    with open(path, "rb") as file:
        begin = file.read(4096)
    if path.suffix.lower() in RECORDS:
        return "tfrecords"  # which begin with no mark of their own
    named_array = path.suffix.lower() in ARRAYS
    if begin.startswith(b"PK"):
        return "array" if named_array else _of_zip(path, data)
    if begin.startswith(_PACKED):
        return _packed(path, data)
    kind = next((kind for bytes_, kind in _BEGINNINGS.items() if begin.startswith(bytes_)), None)
    if kind is not None:
        return "array" if kind == "pickle" and named_array else kind
    if path.suffix.lower() in SUFFIXES or _is_image(path, begin):
        return "image"
    if named_array and data == "array":
        return data  # a damaged one, or a pointer to it
    return "csv" if _is_text(begin) else "other"


def _of_zip(path, data):
    try:
        with zipfile.ZipFile(path) as file:
            names = file.namelist()
    except zipfile.BadZipFile:
        names = []
    if any(name.endswith(".npy") for name in names):
        return "array"
    if {"[Content_Types].xml", "mimetype"} & set(names):
        return "sheet"
    return _packed(path, data)


def _packed(path, data):
    suffixes = {suffix.lower() for suffix in path.suffixes}
    table = (data == "csv" or _TEXTS & suffixes) and ".tar" not in suffixes
    return "csv" if table and path.suffix.lower() in _PACKED_TABLES else "archive"


def _is_text(begin):
    """In whatever encoding: of 8 bits, or UTF-16 with its mark."""
    return begin[:2] in (b"\xff\xfe", b"\xfe\xff") or not set(begin) & set(_CONTROLS)


def _is_image(path, begin):
    if _is_text(begin):
        return False
    try:
        PIL.Image.open(path).close()
    except (OSError, PIL.Image.DecompressionBombError):
        return False
    return True
