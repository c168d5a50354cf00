"""Small files that are whole or not there, and a folder that one process has."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import socket
import struct
import zipfile

from train.errors import UserError
from train.settings import ON_DISK

__all__ = ["fingerprint", "fingerprint_of", "locked", "stored_at", "write_json", "write_text"]

_LARGE = 2 ** 32  # bytes of a file that is not read as a whole to tell it from others


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

    Of a file of more than 4 GiB, its size and 64 pieces count. Hidden files are passed over, as
    systems write them into any folder that is looked at.
    """
    path, digest = pathlib.Path(path), hashlib.sha256()
    if path.is_dir():
        files = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        for file in sorted(files):
            digest.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
    else:
        size = path.stat().st_size
        with open(path, "rb") as file:
            if size > _LARGE:
                digest.update(str(size).encode())
                for i in range(64):
                    file.seek(i * (size - 2 ** 20) // 63)
                    digest.update(file.read(2 ** 20))
            else:
                while part := file.read(2 ** 24):
                    digest.update(part)
    return digest.hexdigest()


def fingerprint_of(settings):
    """That of the files that the settings name: of --dataroot, and of an array's --labels."""
    if settings.subject not in ON_DISK:
        return ""
    beside = settings.data == "array" and settings.labels
    return fingerprint(settings.dataroot) + (fingerprint(settings.labels) if beside else "")


def stored_at(archive, name):
    """Where the bytes of an entry of a `zipfile.ZipFile` begin in its file; None if compressed."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        return None
    archive.fp.seek(entry.header_offset + 26)  # of the local header: lengths of name and extra
    return entry.header_offset + 30 + sum(struct.unpack("<HH", archive.fp.read(4)))


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
