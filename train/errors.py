"""What can go wrong for a user, apart from what is a defect of the program."""

import contextlib
import errno
import os
import pathlib

__all__ = ["Interrupted", "NotConverged", "Unwritable", "UserError", "WorkerLost",
           "blame_the_disk", "blame_the_input"]

_DISK = [os.strerror(e) for e in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES,
                                  errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR)]


class UserError(Exception):
    """A flag, a file or the data is not right. One line, no traceback."""


class NotConverged(Exception):
    """An inverse that was asked for could not be solved for."""


class Unwritable(Exception):
    """The workdir takes no more: a full disk, one that may only be read."""


class WorkerLost(Exception):
    """Another worker is gone."""


class Interrupted(Exception):
    """A signal ended training, after a checkpoint."""

    def __init__(self, signal):
        super().__init__(signal)
        self.signal = signal


@contextlib.contextmanager
def blame_the_input():
    """Where flags become data and models, a ValueError or OSError is about what the user gave."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise UserError(" ".join(str(error).split())) from error


@contextlib.contextmanager
def blame_the_disk(folder):
    """Within, an error of the file system is about `folder`, which is written to."""
    try:
        yield
    except (UserError, Interrupted, FloatingPointError, WorkerLost, Unwritable):
        raise
    except Exception as error:  # an OSError, or what TensorFlow's C++ makes of one
        text, nameless = str(error), isinstance(error, OSError) and error.filename is None
        reasons = [reason for reason in _DISK if reason.lower() in text.lower()]
        if not reasons or not (nameless or str(folder) in text):
            raise
        kept = any(pathlib.Path(folder).glob("checkpoints/*/*.index"))
        raise Unwritable(f"--workdir={folder} cannot be written: {reasons[0]}" + (
            ". The checkpoints that are there are whole; the same command goes on from them"
            if kept else "")) from error
