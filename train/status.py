"""Lines that say what a run is doing, for whoever reads a pipe or a log."""

import contextlib
import threading
import time

__all__ = ["duration", "repeating", "saying"]

_SECONDS = 10


@contextlib.contextmanager
def saying(what):
    """Prints a line now and, within, another one each 10 seconds.

    Args:
      what: what is being done.
    """
    print(f"{what} ...", flush=True)
    began = time.monotonic()
    with repeating(lambda: f"{what} ... {duration(time.monotonic() - began)}"):
        yield


@contextlib.contextmanager
def repeating(line, seconds=None):
    """Within, prints what `line()` returns each so many seconds; nothing where that is None.

    Args:
      line: a function without arguments, called in a thread of its own.
      seconds: a number; default 10.
    """
    over = threading.Event()

    def repeat():
        while not over.wait(seconds or _SECONDS):
            text = line()
            if text is not None and not over.is_set():
                print(text, flush=True)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def duration(seconds):
    """Seconds in words."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
