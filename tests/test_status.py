"""What a run says while it works."""

import re
import time
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.command import finish, start, wait_for
from tests.test_faults import TINY
from train import callbacks, status
from train.main import main
from train.status import duration, repeating, saying


def test_a_line_at_once_and_more_while_it_lasts(capsys, monkeypatch):
    monkeypatch.setattr(status, "_SECONDS", 0.01)
    with saying("reading"):
        assert capsys.readouterr().out.splitlines()[0] == "reading ..."
        while "reading ... 0 s\n" not in capsys.readouterr().out:
            time.sleep(0.01)


def test_nothing_to_say_is_not_said(capsys):
    lines = ["one", None, "three"]
    with repeating(lambda: lines.pop(0) if lines else None, seconds=0.01):
        while lines:
            time.sleep(0.01)
    assert capsys.readouterr().out == "one\nthree\n"


def test_durations():
    assert [duration(s) for s in (0.4, 61, 3725)] == ["0 s", "1 min 01 s", "1 h 02 min"]


def test_a_thread_that_speaks_ends_with_what_it_speaks_of():
    said = []
    with pytest.raises(ZeroDivisionError), repeating(lambda: said.append(1), seconds=0.01):
        while not said:
            time.sleep(0.01)
        1 / 0
    count = len(said)
    time.sleep(0.1)
    assert len(said) == count


def test_news_until_the_first_validation(monkeypatch):
    """Step, bits/dim, seconds a step and time left, from the second step on."""
    clock = iter(range(100, 1000, 2))
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: next(clock))
    iterations = tf.Variable(0)
    model = types.SimpleNamespace(optimizer=types.SimpleNamespace(iterations=iterations))
    progress = callbacks.Progress(None, "bpd", "bits/dim", steps=20, max_minutes=0)
    progress.set_model(model)
    assert progress._news() == "preparing the first step ... 2 s"
    progress.on_epoch_begin(0)
    for step, bpd in ((1, 6.5), (2, 6.25), (3, 6.0)):
        iterations.assign(step)
        progress.on_train_batch_end(step - 1, {"bpd": bpd})
        if step == 1:
            assert progress._news() == "step       1  train 6.5000 bits/dim"
    assert progress._news() == "step       3  train 6.0000 bits/dim  2.000 s/step  34 s left"
    progress.on_test_begin()
    assert progress._news().startswith("validating at step 3 ... ")
    progress.on_epoch_end(0, {"bpd": 6.0, "val_bpd": 6.5})
    assert progress._news() is None


@pytest.mark.slow
def test_a_pipe_hears_of_a_run_at_once(tmp_path):
    """Before TensorFlow is loaded, and of each thing that takes long."""
    process = start(*TINY, "--niters=3", "--val_every=3", f"--workdir={tmp_path / 'run'}")
    lines = wait_for(process, " left")
    finish([process])
    assert lines[0] == f"train 8gaussians in {tmp_path / 'run'} ...\n"
    said = "".join(lines)
    assert re.search("^building the model", said, re.M) and "preparing the first step" in said


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
@pytest.mark.parametrize("ends_at", ["in the validation", "before the checkpoint"])
def test_no_row_of_the_log_is_missing_after_a_kill(tmp_path, monkeypatch, ends_at):
    """Checkpoints between validations do not go past one that was not made, and rows not twice."""
    run = ["x", *TINY, "--niters=12", "--val_every=4", "--save_every=2",
           f"--workdir={tmp_path / 'run'}"]
    place = {"in the validation": (callbacks.Progress, "on_test_begin"),
             "before the checkpoint": (callbacks.Checkpoints, "judge")}[ends_at]
    untouched, calls = getattr(*place), []

    def killed(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return untouched(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(*place, killed)
        assert main(run) == 130
    assert main(run) == 0
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert list(log.step) == [4, 8, 12] and log.notna().all().all()
    assert b"\r" not in (tmp_path / "run" / "log.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_the_log_of_a_resumed_run_is_that_of_an_undisturbed_one(tmp_path, monkeypatch, capsys):
    """The means of training are of whole intervals; what the command line changes is told."""
    args = ["x", *TINY, "--niters=12", "--val_every=8", "--save_every=3"]
    assert main([*args, f"--workdir={tmp_path / 'whole'}"]) == 0
    untouched = callbacks.Checkpoints.on_train_batch_end

    def killed(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 7:
            raise KeyboardInterrupt
        return untouched(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_batch_end", killed)
        assert main([*args, f"--workdir={tmp_path / 'run'}"]) == 130
    capsys.readouterr()
    assert main([*args, f"--workdir={tmp_path / 'run'}", "--wd=0.0", "--keep_checkpoints=2"]) == 0
    out = capsys.readouterr().out
    assert "continuing from step 6" in out
    assert "--keep_checkpoints is 2 from now on (until now 3)" in out and "--wd" not in out
    whole, run = (pd.read_csv(tmp_path / name / "log.csv") for name in ("whole", "run"))
    assert list(run.step) == list(whole.step) == [8, 12]
    for column in ("loss", "nll", "val_nll"):
        np.testing.assert_allclose(run[column], whole[column], rtol=1e-5)
