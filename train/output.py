"""Standard output and error, which may end before the command does: nothing depends on them."""

import contextlib
import os
import sys
import threading

__all__ = ["outliving_readers", "silenced"]

_late: list | None = None  # what is to be said when `silenced` is over, else None


@contextlib.contextmanager
def outliving_readers():
    """Within, what cannot be printed any more is left out, and the command goes on.

    Whoever reads a pipe may end first (`train ... | head`), or a terminal: the results are in the
    workdir. At the first error the stream's file is replaced by the null device; that it is so with
    standard output is said on standard error. Streams that are closed from the start print nothing.
    """
    kept = sys.stdout, sys.stderr
    error = sys.stderr = _Outliving(sys.stderr or open(os.devnull, "w"))
    output = sys.stdout = _Outliving(sys.stdout or open(os.devnull, "w"), _say)
    try:
        yield
    finally:
        output.flush()  # what was not flushed yet may be the first to find no reader
        error.flush()
        sys.stdout, sys.stderr = kept


@contextlib.contextmanager
def silenced():
    """Within, nothing gets to standard error, C++ included, but what is said here comes after."""
    global _late
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    _late = late = []
    try:
        yield
    finally:
        _late = None
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
        for text in late:
            print(text, file=sys.stderr, flush=True)


class _Outliving:
    """A text stream that writes as `stream` does until an error, and from then on to nowhere.

    Args:
      stream: of a file.
      said: a function that is called with the first error.
    """

    def __init__(self, stream, said=lambda error: None):
        self._stream, self._said = stream, said
        self._lock, self._lost = threading.RLock(), False

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        with self._losing_the_file():
            self._stream.write(text)
        return len(text)

    def flush(self):
        with self._losing_the_file():
            self._stream.flush()

    @contextlib.contextmanager
    def _losing_the_file(self):
        try:
            yield
        except OSError as error:
            with self._lock:  # of several threads one
                if self._lost:
                    return
                self._lost = True
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())  # what is still buffered goes there, too
                os.close(nowhere)
            self._said(error)


def _say(error):
    text = (f"warning: standard output takes no more ({error.strerror}): the command goes on "
            "without")
    if (late := _late) is not None:
        late.append(text)
    else:
        print(text, file=sys.stderr, flush=True)
