"""Runs of the command line, each in a process of its own, and what they left behind."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import typing

import pandas as pd

from train.errors import UserError

__all__ = ["Run", "run", "run_all"]

_QUICK = ("--niters=4", "--val_every=2", "--max_minutes=0", "--eval_probes=1",
          "--n_test=200", "--n_sample_images=4")


class Run(typing.NamedTuple):
    """A finished run.

    Attributes:
      workdir: its folder.
      metrics: what `eval` said, a dictionary.
      log: a row a validation, with `step`, `val_nll` and, of images, `val_bpd`.
    """

    workdir: pathlib.Path
    metrics: dict
    log: pd.DataFrame


def run(workdir, quick, config, *flags, needs=("metrics.json",)):
    """Trains and evaluates in `workdir`, or goes on there; at once if that is done.

    Args:
      workdir: a folder.
      quick: a few steps only.
      config: name of a file in configs/.
      *flags: more of the command line.
      needs: files of the workdir without which it is not done.

    Raises:
      UserError: the run failed.
    """
    def is_done():
        return all((workdir / name).exists() for name in needs)

    workdir = pathlib.Path(workdir)
    command = ["--flagfile=" + f"configs/{config}.cfg", f"--workdir={workdir}", *flags,
               *(_QUICK if quick else ())]
    if not is_done():
        print(f"{workdir}: python -m train.main {' '.join(command)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "train.main", *command], text=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            said = f"the run in {workdir} ended with code {done.returncode}: {last}"
            if not is_done():
                raise UserError(said)
            print(f"warning: {said}", flush=True)  # evaluated, but there are no samples
    log = pd.read_csv(workdir / "log.csv", on_bad_lines="skip")
    log = log.apply(pd.to_numeric, errors="coerce").dropna(subset=["step"])
    return Run(workdir, json.loads((workdir / "metrics.json").read_text()), log)


def run_all(quick, jobs):
    """`[run(workdir, quick, config, *flags), ...]` of jobs `(workdir, config, *flags)`.

    One for each two processors at a time, at least two: starting and tracing use one only.
    """
    with concurrent.futures.ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2)) as pool:
        return list(pool.map(lambda job: run(job[0], quick, *job[1:]), jobs))
