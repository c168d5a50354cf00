"""The command line that users type, for the tests of it."""

import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = f"--flagfile={ROOT / 'configs' / 'smoke.cfg'}"
LONG = [SMOKE, "--niters=5000", "--val_every=5", "--save_every=2"]


def start(*args):
    """The command in a process of its own."""
    return subprocess.Popen([sys.executable, "-m", "train.main", *args], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "PYTHONUNBUFFERED": "1"})


def wait_for(process, text, seconds=120):
    """Reads the process's output until a line has `text` in it."""
    began, lines = time.monotonic(), []
    while time.monotonic() - began < seconds:
        line = process.stdout.readline()
        lines.append(line)
        if text in line:
            return lines
        if not line and process.poll() is not None:
            break
    raise AssertionError(f"no {text!r} in {lines}; {process.stderr.read()}")
