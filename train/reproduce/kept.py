"""What a reproduction has computed stays in its folder: one that was stopped goes on there."""

import pathlib

import joblib

__all__ = ["kept"]


def kept(folder, function):
    """`function`, whose results are read from `folder/kept` where it has been called before.

    Anew where its own code has changed; after a change of what it calls, delete that folder.

    Args:
      folder: of the reproduction.
      function: of a module, of plain values and arrays; whatever its result depends on is among
        them.
    """
    return joblib.Memory(pathlib.Path(folder) / "kept", verbose=0).cache(function)
