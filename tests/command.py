"""The command line that users type, for the tests of it."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import tensorflow as tf

ROOT = pathlib.Path(__file__).parents[1]
SMOKE = f"--flagfile={ROOT / 'configs' / 'smoke.cfg'}"

KILLS = int(os.environ.get("KILLS", 1))  # of the runs that are killed again and again


def start(*args, module="train.main", **kwargs):
    """The command in a process of its own; `env` adds to the environment."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **kwargs.pop("env", {})}
    return subprocess.Popen([sys.executable, "-m", module, *args], cwd=ROOT, text=True, env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def start_workers(count, *args, env=(), **kwargs):
    """As many processes that train together, on this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        cluster = {"worker": [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]}
    return [start(*args, env={**dict(env), "TF_CONFIG": json.dumps(
        {"cluster": cluster, "task": {"type": "worker", "index": i}})}, **kwargs)
        for i in range(count)]


def finish(processes, seconds=900):
    """Their exit codes, output and errors; none is left running."""
    results = []
    try:
        for process in processes:
            results.append(process.communicate(timeout=seconds))
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], *zip(*results)


def checkpoint(workdir, name="last"):
    """All arrays of the newest checkpoint of a run, without the time that it took."""
    reader = tf.train.load_checkpoint(workdir / "checkpoints" / name)
    return {key: reader.get_tensor(key) for key in sorted(reader.get_variable_to_dtype_map())
            if key.startswith("variables/")}


def checkpoint_step(workdir):
    """Of the newest checkpoint, 0 without one."""
    steps = [int(path.stem.split("-")[1])
             for path in (workdir / "checkpoints" / "last").glob("*.index")]
    return max(steps, default=0)


def wait_for(process, text, seconds=600):
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
