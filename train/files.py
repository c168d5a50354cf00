"""Small files that are whole or not there, and a folder that one process has."""

import contextlib
import fcntl
import json
import os
import pathlib
import socket

from train.errors import UserError

__all__ = ["locked", "write_json"]


def write_json(value, path):
    """Writes `value` as JSON; a reader, or a kill in between, never sees half a file."""
    path = pathlib.Path(path)
    part = path.with_suffix(".part")
    try:
        part.write_text(json.dumps(value, indent=1) + "\n")
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(folder):
    """Within, no other process enters `locked(folder)`; however this one ends, it is free again.

    Raises:
      UserError: another one has it.
    """
    with open(pathlib.Path(folder) / "lock", "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(f"--workdir={folder} is in use by another run "
                            f"({lock.read().strip()}). Choose another --workdir, or end that run"
                            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()
        yield
