"""Arrays in a .npz or .npy file: images or vectors."""

import pathlib
import zipfile
import zlib

import numpy as np

from train.data.source import SPLITS, from_arrays, split_by_seed

__all__ = ["source"]

_ACCEPTED = ("uint8 images [n, H, W] or [n, H, W, C], or floating-point vectors [n, D], in one "
             "array, or in arrays named train, test and, optionally, validation")


def source(settings):
    """Images of 8 bits or vectors, parted by the file or else by --seed."""
    path = pathlib.Path(settings.dataroot)
    arrays = _read(path)
    if "train" in arrays and "test" in arrays:
        parts = {s: _checked(path, s, arrays[s]) for s in SPLITS if s in arrays}
        if "validation" not in parts:
            keep = len(parts["train"]) - max(1, round(len(parts["train"]) * settings.val_fraction))
            order = np.random.RandomState(settings.seed).permutation(len(parts["train"]))
            parts["validation"] = parts["train"][order[keep:]]
            parts["train"] = parts["train"][order[:keep]]
    elif len(arrays) == 1:
        [(name, array)] = arrays.items()
        array = _checked(path, name, array)
        indices = split_by_seed(len(array), settings, str(path))
        parts = {s: array[i] for s, i in indices.items()}
    else:
        raise ValueError(f"{path}: expected {_ACCEPTED}. Found arrays named "
                         f"{', '.join(sorted(arrays))}")
    shapes = {s: a.shape[1:] for s, a in parts.items()}
    if len(set(shapes.values())) > 1 or min(map(len, parts.values())) < 1:
        raise ValueError(f"{path}: the parts must not be empty and have examples of one shape. "
                         f"Found {({s: a.shape for s, a in parts.items()})}")
    image = parts["train"].dtype == np.uint8
    return from_arrays("image" if image else "vector", parts, nbits=8 if image else None)


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"--dataroot={path}: no such file")
    try:
        loaded = np.load(path, allow_pickle=False)
        return {"array": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not a readable .npz or .npy file ({error})") from None


def _checked(path, name, array):
    if array.dtype == np.uint8 and array.ndim in (3, 4):
        return array if array.ndim == 4 else array[..., None]
    if array.dtype.kind == "f" and array.ndim == 2:
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            row, column = bad[0]
            raise ValueError(f"{path}: {name}[{row}, {column}] is not finite "
                             f"({array[row, column]})")
        return array.astype(np.float32)
    raise ValueError(f"{path}: expected {_ACCEPTED}. Found {name}: {array.dtype} "
                     f"{list(array.shape)}")
