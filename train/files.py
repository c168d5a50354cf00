"""Small files that are whole or not there, and a folder that one process has."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import socket

from train.errors import UserError
from train.settings import FILES

__all__ = ["fingerprint", "fingerprint_of", "locked", "write_json", "write_text"]


def write_json(value, path):
    """Writes `value` as JSON, as `write_text` does."""
    write_text(json.dumps(value, indent=1) + "\n", path)


def write_text(text, path):
    """Writes `text`; a reader, or a kill in between, never sees half a file."""
    path = pathlib.Path(path)
    part = path.with_suffix(".part")
    try:
        part.write_text(text)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def fingerprint(path):
    """A number of what a file holds, or of names and sizes of the files in a folder.

    Hidden files are passed over, as systems write them into any folder that is looked at.
    """
    path, digest = pathlib.Path(path), hashlib.sha256()
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        for file in sorted(files):
            digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
    else:
        with open(path, "rb") as file:
            while part := file.read(2 ** 24):
                digest.update(part)
    return digest.hexdigest()


def fingerprint_of(settings):
    """That of the files that the settings name: of --dataroot, and of an array's --labels."""
    if settings.data not in FILES:
        return ""
    beside = settings.data == "array" and settings.labels
    return fingerprint(settings.dataroot) + (fingerprint(settings.labels) if beside else "")


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
