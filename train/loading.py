"""How TensorFlow is loaded by a command line: without its chatter, and whole."""

import contextlib
import os
import signal

__all__ = ["loading"]


@contextlib.contextmanager
def loading():
    """Silences what TensorFlow's C++ side writes to stderr, and lets Ctrl-C wait until the end.

    An interrupt inside of its initialisation would abort the process.

    Raises:
      KeyboardInterrupt: there was one.
    """
    interrupts: list = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt
