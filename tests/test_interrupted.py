"""Runs that are killed or stopped: they go on as if nothing had been."""

import json
import os
import random
import re
import signal
import time

import numpy as np
import pandas as pd
import pytest

from tests.command import KILLS, checkpoint, checkpoint_step, finish, start, wait_for
from tests.test_faults import TINY
from tfresflow import FlowModel
from train import callbacks
from train.main import main


def begin(*args):
    return start(*args, module="tests.only_train")


@pytest.mark.exhaustive
def test_killed_again_and_again_it_ends_as_if_undisturbed(tmp_path):
    """No example is skipped or seen twice: the stream is a function of the step alone."""
    args = [*TINY, f"--niters={400 + 400 * KILLS}"]
    undisturbed, workdir, moments = tmp_path / "undisturbed", tmp_path / "run", random.Random(0)
    codes, _, errors = finish([begin(*args, f"--workdir={undisturbed}")])
    assert codes == [0], errors
    steps = [0]
    for i in range(KILLS):
        process = begin(*args, f"--workdir={workdir}")
        if i % 2 == 0:  # in training; else at any moment since the start, the import included
            for _ in range(2):  # the first validation is followed by its checkpoint
                wait_for(process, "  validation ")
        time.sleep(moments.uniform(0, 0.5 if i % 2 == 0 else 5))
        process.kill()
        process.communicate()
        steps.append(checkpoint_step(workdir))
    assert steps == sorted(steps) and 100 <= steps[-1], steps
    codes, [out], errors = finish([begin(*args, f"--workdir={workdir}")])
    assert codes == [0] and f"continuing from step {steps[-1]}" in out, errors
    arrays, want = checkpoint(workdir), checkpoint(undisturbed)
    assert arrays.keys() == want.keys() and len(arrays) > 30
    for name, a in arrays.items():
        np.testing.assert_allclose(a, want[name], rtol=1e-6, atol=1e-7, err_msg=name)
    assert not list((workdir / "checkpoints").rglob("*_temp"))


@pytest.mark.slow
def test_a_run_that_is_killed_in_its_last_validation(tmp_path, monkeypatch, capsys):
    run = ["x", *TINY, f"--workdir={tmp_path / 'run'}", "--niters=12", "--val_every=12",
           "--save_every=6"]

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FlowModel, "evaluate", killed)
        assert main(run) == 130
    assert main(["x", "eval", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "no validation yet; --checkpoint=last is there" in capsys.readouterr().err
    assert main(run) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["step"] == 12 and metrics["checkpoint"] == "best"


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_a_signal_in_validation(tmp_path, monkeypatch, capsys):
    """Saved are the weights of training, not the averaged ones that validation has in place."""
    runs = [tmp_path / name for name in ("undisturbed", "disturbed")]
    args = ["x", *TINY, "--niters=12", "--val_every=4", "--warmup_iters=0"]
    assert main([*args, f"--workdir={runs[0]}"]) == 0
    original, calls = callbacks.Progress.on_test_begin, []

    def interrupted(self, logs=None):
        original(self, logs)
        calls.append(int(self.model.optimizer.iterations.numpy()))
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Progress, "on_test_begin", interrupted)
        assert main([*args, f"--workdir={runs[1]}"]) == 143
    assert calls == [4, 8] and "SIGTERM: saved" in capsys.readouterr().err
    assert (runs[1] / "checkpoints" / "last" / "ckpt-8.index").exists()
    assert main([*args, f"--workdir={runs[1]}"]) == 0
    one, other = map(checkpoint, runs)
    for key, value in one.items():
        np.testing.assert_allclose(other[key], value, rtol=0, atol=1e-6, err_msg=key)
    one, other = (pd.read_csv(run / "log.csv") for run in runs)
    assert list(other.step) == [4, 8, 12]
    for column in ("loss", "nll", "val_nll"):
        np.testing.assert_allclose(other[column], one[column], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_the_best_of_all_validations_is_kept(tmp_path, monkeypatch):
    """What is evaluated, unless the last is asked for."""
    scores, untouched = iter([3.0, 1.0, 2.0]), callbacks.Checkpoints.on_epoch_end
    monkeypatch.setattr(
        callbacks.Checkpoints, "on_epoch_end", lambda self, epoch, logs:
        untouched(self, epoch, {**logs, self._monitor: next(scores)}))
    run = tmp_path / "run"
    assert main(["x", *TINY, "--niters=12", "--val_every=4", f"--workdir={run}"]) == 0
    for name, step in (("best", 8), ("last", 12), ("best", 8)):
        assert main(["x", "eval", f"--workdir={run}", f"--checkpoint={name}"]) == 0
        metrics = json.loads((run / "metrics.json").read_text())
        assert (metrics["checkpoint"], metrics["step"]) == (name, step)


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_time_limit(tmp_path, capsys):
    """Of all runs on a workdir together: one more has no time left."""
    args = ["x", *TINY, "--niters=1000000", f"--workdir={tmp_path / 'run'}", "--max_minutes=0.1"]
    assert main(args) == 0
    step = checkpoint_step(tmp_path / "run")
    assert 0 < step < 1000000
    assert main(args) == 0
    assert re.search(f"(at|continuing from) step {step} ", capsys.readouterr().out)
    # One step at most, if the checkpoint was saved the moment before the time was over.
    assert checkpoint_step(tmp_path / "run") - step in (0, 1)
