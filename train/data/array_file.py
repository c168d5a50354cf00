"""Files of arrays: .npy, .npz, and .pth or .pt of PyTorch, large ones left where they are."""

import contextlib
import math
import zipfile
import zlib

import numpy as np

from train.files import stored_at
from train.reference.reading import Checkpoint, Tensor

__all__ = ["SUFFIXES", "is_large", "read_arrays"]

SUFFIXES = (".npy", ".npz", ".pth", ".pt")
LARGE = 2 ** 28  # bytes of an array of uint8 that is not read as a whole


def is_large(array):
    """Whether an array of uint8 stays in its file."""
    return array.nbytes > LARGE


@contextlib.contextmanager
def _readable(path):
    """Within, what goes wrong is that of the file."""
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path}: an array holds objects of Python, as texts or lists of "
                             "different lengths, which have no density. Save numbers: "
                             "array.astype(float)") from None
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: not a readable .npz or .npy file ({error})") from None


def read_arrays(path, choose):
    """`{name: array}` of a file; arrays of uint8 of more than `LARGE` bytes are mapped.

    Args:
      path: of the file.
      choose: function of the names in it: which are wanted, in which order, a dictionary from
        what they are to be called.

    Raises:
      ValueError: it cannot be read, or `choose` raises it.
    """
    if path.suffix.lower() in (".pth", ".pt"):
        return _read_tensors(path, choose)
    with _readable(path):
        loaded = np.load(path, mmap_mode=_mode(path), allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"array": loaded}
    with loaded:
        arrays = {}
        for part, name in choose(loaded.files).items():
            with _readable(path):
                arrays[part] = _mapped(path, loaded.zip, name)
                if arrays[part] is None:
                    arrays[part] = loaded[name]
        return arrays


def _mode(path):
    """Only what is large is mapped: a file may change while it is used."""
    return "r" if path.suffix.lower() == ".npy" and path.stat().st_size > LARGE else None


def _mapped(path, archive, name):
    """A large array of an .npz file; None if it is small, packed, or in another order."""
    entry = name if name in archive.namelist() else f"{name}.npy"
    begin = stored_at(archive, entry)
    if begin is None or archive.getinfo(entry).file_size <= LARGE:
        return None
    with open(path, "rb") as file:
        file.seek(begin)
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0)
        shape, fortran, dtype = read(file)
        if fortran or dtype != np.uint8:
            return None
        return np.memmap(path, dtype, "r", file.tell(), shape)


def _read_tensors(path, choose):
    """Of `torch.save` of a tensor, or of a dictionary of tensors; no code of it is run."""
    with Checkpoint(path) as checkpoint:
        found = checkpoint.content
        found = {"array": found} if isinstance(found, Tensor) else found
        if not isinstance(found, dict) or not all(
                isinstance(name, str) and isinstance(value, Tensor)
                for name, value in found.items()):
            raise ValueError(f"{path}: expected a tensor, or a dictionary of tensors. Found "
                             f"{type(found).__name__}")
        if set(found) != {"array"}:
            found = {part: found[name] for part, name in choose(list(found)).items()}
        return {name: _of_tensor(tensor) for name, tensor in found.items()}


def _of_tensor(tensor):
    large = tensor.dtype == np.uint8 and math.prod(tensor.shape) > LARGE
    mapped = tensor.mapped() if large else None
    return np.asarray(tensor) if mapped is None else mapped
