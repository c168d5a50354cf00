"""What can go wrong for a user, apart from what is a defect of the program."""

import contextlib

__all__ = ["Interrupted", "NonFinite", "UserError", "blame_the_input"]


class UserError(Exception):
    """A flag, a file or the data is not right. One line, no traceback."""


class NonFinite(Exception):
    """Training met a loss that is not finite."""


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
