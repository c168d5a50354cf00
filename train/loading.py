"""How a command line loads TensorFlow, without its chatter and whole, and hears Ctrl-C."""

import contextlib
import signal

from train.output import silenced

__all__ = ["hearing_interrupts", "loading"]


@contextlib.contextmanager
def loading():
    """Silences what TensorFlow's C++ side writes to stderr, and lets Ctrl-C wait until the end.

    An interrupt inside of its initialisation would abort the process.

    Raises:
      KeyboardInterrupt: there was one.
    """
    interrupts: list = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: interrupts.append(number))
    try:
        with silenced():
            yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        raise KeyboardInterrupt


@contextlib.contextmanager
def hearing_interrupts():
    """Within, Ctrl-C raises KeyboardInterrupt, and again each second until it gets through.

    Python drops what is raised inside of a destructor, and there are many of them at work.
    """
    def interrupt(number, frame):
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        raise KeyboardInterrupt

    handlers = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
