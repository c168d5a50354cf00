"""Runs that are killed, stopped, or go wrong: what was saved, and what is said."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

from tests.command import KILLS, ROOT, SMOKE, checkpoint, checkpoint_step, finish, start, wait_for
from tfresflow import FlowModel
from train import callbacks, fit
from train.main import main

TINY = ["--data=8gaussians", "--nblocks=2", "--dims=8", "--n_test=400", "--batchsize=50",
        "--val_every=100", "--save_every=10", "--n_dist=geometric"]
LONG = [*TINY, "--niters=5000", "--val_every=5", "--save_every=2"]


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_undisturbed(tmp_path):
    """No example is skipped or seen twice: the stream is a function of the step alone."""
    args = [*TINY, f"--niters={400 + 400 * KILLS}"]
    undisturbed, workdir, moments = tmp_path / "undisturbed", tmp_path / "run", random.Random(0)
    codes, _, errors = finish([start(*args, f"--workdir={undisturbed}")])
    assert codes == [0], errors
    steps = [0]
    for i in range(KILLS):
        process = start(*args, f"--workdir={workdir}")
        if i % 2 == 0:  # in training; else at any moment since the start, the import included
            for _ in range(2):  # the first validation is followed by its checkpoint
                wait_for(process, "  validation ")
        time.sleep(moments.uniform(0, 0.5 if i % 2 == 0 else 5))
        process.kill()
        process.communicate()
        steps.append(checkpoint_step(workdir))
    assert steps == sorted(steps) and 100 <= steps[-1], steps
    codes, [out], errors = finish([start(*args, f"--workdir={workdir}")])
    assert codes == [0] and f"continuing from step {steps[-1]}" in out, errors
    arrays, want = checkpoint(workdir), checkpoint(undisturbed)
    assert arrays.keys() == want.keys() and len(arrays) > 50
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
    assert f"continuing from step {step}" in capsys.readouterr().out
    # One step at most, if the checkpoint was saved the moment before the time was over.
    assert checkpoint_step(tmp_path / "run") - step in (0, 1)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["x", *LONG, f"--workdir={workdir}", "--lr=1e30", "--warmup_iters=0",
                 "--optimizer=sgd", "--clip=0"]) == 4
    error = capsys.readouterr().err
    assert "the loss or the gradient is not finite at step 2" in error
    assert "first bad: the value of block" in error and "There is no checkpoint yet" in error


@pytest.mark.slow
def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, capsys):
    """Here the loss of a step is finite, and what its update leaves is not."""
    untouched = callbacks.Checkpoints.on_train_batch_end

    def spoil(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 6:
            weight = self.model.trainable_weights[3]
            weight.assign(np.nan * weight)
        untouched(self, batch, logs)

    monkeypatch.setattr(callbacks.Checkpoints, "on_train_batch_end", spoil)
    assert main(["x", *LONG, f"--workdir={tmp_path / 'run'}"]) == 4
    error = capsys.readouterr().err
    assert "is not finite at step 6. The last good checkpoint is" in error and "ckpt-5" in error


@pytest.mark.slow
def test_a_truncated_image_is_named(tmp_path, capsys):
    """Its header is whole, so it is met only in training."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(20):
        pixels = np.random.RandomState(i).randint(0, 255, [8, 8, 3], np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{i}.png")
    path = folder / "5.png"
    path.write_bytes(path.read_bytes()[:60])
    assert main(["x", SMOKE, "--data=folder", f"--dataroot={folder}", "--batchsize=4",
                 "--nblocks=1", "--nofc_end", f"--workdir={tmp_path / 'run'}"]) == 2
    assert f"error: {path}: not a readable image (Invalid PNG data" in capsys.readouterr().err


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A short run with checkpoints."""
    workdir = tmp_path_factory.mktemp("runs") / "saved"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "report", lambda settings: None)
        assert main(["x", *TINY, "--niters=100", f"--workdir={workdir}"]) == 0
    return workdir


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes())
            for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("args, message", [
    (["--dims=9"], "holds a run with other settings: dims (there '8', here '9')"),
    (["--data=moons"], "holds a run with other settings: data (there '8gaussians', here 'moons')"),
    (["--keep_checkpoints=0"], "--keep_checkpoints must be positive"),
    (["--skip_nonfinite=-1"], "--skip_nonfinite must be at least 0"),
    (["--strategy=tpu"], "flag --strategy=tpu: value should be one of <auto|one|mirrored|"),
])
def test_a_command_that_does_not_fit_leaves_the_workdir_as_it_is(saved, args, message, capsys):
    before = contents(saved)
    assert main(["x", *TINY, "--niters=200", f"--workdir={saved}", *args]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert contents(saved) == before


def test_a_batch_that_replicas_cannot_share(tmp_path, capsys):
    assert main(["x", *TINY, "--logical_cpus=2", "--strategy=mirrored", "--batchsize=51",
                 f"--workdir={tmp_path / 'run'}"]) == 2
    assert ("--batchsize must be a multiple of the 2 replicas. Received: --batchsize=51"
            in capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("only_train")
def test_a_damaged_checkpoint_is_skipped(saved, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    last = workdir / "checkpoints" / "last" / "ckpt-100.index"
    last.write_bytes(last.read_bytes()[:20])
    assert main(["x", *TINY, "--niters=110", f"--workdir={workdir}"]) == 0
    captured = capsys.readouterr()
    assert "continuing from step 90" in captured.out
    assert "ckpt-100 is not readable and is skipped" in captured.err


@pytest.mark.slow
def test_the_second_run_on_a_workdir_is_refused(tmp_path):
    workdir = tmp_path / "run"
    first = start(*TINY, "--niters=100000", f"--workdir={workdir}")
    wait_for(first, " left")
    codes, _, [error] = finish([start(*TINY, "--niters=100000", f"--workdir={workdir}")])
    assert codes == [2] and f"is in use by another run (process {first.pid} on" in error
    first.send_signal(signal.SIGTERM)
    codes, _, [error] = finish([first])
    assert codes == [143] and "SIGTERM: saved" in error and "Traceback" not in error


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_a_disk_that_takes_no_more(saved, tmp_path, capsys):
    """Files may not grow beyond what the tables need: no checkpoint can be written."""
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    before = contents(workdir / "checkpoints")
    limit = 4096

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    codes, _, [error] = finish([start(*TINY, "--niters=300", f"--workdir={workdir}",
                                      preexec_fn=small)])
    assert codes == [5] and "cannot be written: File too large" in error
    assert "Traceback" not in error
    assert contents(workdir / "checkpoints") == before
    assert main(["x", *TINY, "--niters=150", f"--workdir={workdir}"]) == 0
    assert "continuing from step 100" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("options, message", [
    ("size=100k", "No space left on device"), ("ro", "Read-only file system")])
def test_a_full_and_a_read_only_disk(saved, tmp_path, options, message):
    """On a file system of its own, where the machine lets users make one."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    command = (f"mount -t tmpfs -o {options} tmpfs {tmp_path} && exec {sys.executable} -m "
               f"train.main {' '.join(TINY)} --niters=2000 --workdir={tmp_path}/run")
    process = subprocess.Popen(["unshare", "-rm", "sh", "-c", command], cwd=ROOT, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    codes, _, [error] = finish([process])
    assert codes == [5] and f"cannot be written: {message}" in error, error
    assert "Traceback" not in error


def test_a_workdir_that_cannot_be_made(tmp_path, capsys):
    """A file, a folder in a file, and one in a file system without folders of ours: named."""
    (tmp_path / "run").write_text("mine")
    for workdir in (tmp_path / "run", tmp_path / "run" / "below", "/proc/run"):
        assert main(["x", *TINY, f"--workdir={workdir}"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: --workdir={workdir} must be a folder") and (
            error.count("\n") == 1), error
    assert (tmp_path / "run").read_text() == "mine"


def test_a_log_that_is_not_ours(tmp_path, capsys):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    assert main(["x", *TINY, f"--workdir={tmp_path}"]) == 2
    assert f"{tmp_path / 'log.csv'} must be the log of a run" in capsys.readouterr().err
    assert (tmp_path / "log.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_last_checkpoints_are_kept(saved, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    assert main(["x", *TINY, "--niters=150", "--keep_checkpoints=5", f"--workdir={workdir}"]) == 0
    names = sorted(path.stem for path in (workdir / "checkpoints" / "last").glob("*.index"))
    assert names == [f"ckpt-{step}" for step in (110, 120, 130, 140, 150)]


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_bad_steps_in_a_row_are_tolerated(tmp_path, capsys, monkeypatch):
    """Two batches of NaN: with --skip_nonfinite=2 the run goes on, with 1 it ends there."""
    from train import data
    load = data.load

    def spoiled(settings, split, start=0, strategy=None):
        batches = load(settings, split, start, strategy)
        if split != "train":
            return batches
        return batches.enumerate(start).map(
            lambda i, x: tf.where((i == 5) | (i == 6), np.nan * x, x))

    monkeypatch.setattr(data, "load", spoiled)
    args = ["x", *TINY, "--niters=20", "--val_every=10", "--save_every=1"]
    assert main([*args, f"--workdir={tmp_path / 'two'}", "--skip_nonfinite=2"]) == 0
    out = capsys.readouterr().out
    assert "step      20" in out and "nan" not in out
    assert main([*args, f"--workdir={tmp_path / 'one'}", "--skip_nonfinite=1"]) == 4
    error = capsys.readouterr().err
    assert ("is not finite at step 7; first bad: the data, in row 0, column 0 of the batch. The "
            "last good") in error
    assert "ckpt-6" in error
