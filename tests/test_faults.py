"""Runs that go wrong: what was saved, and what is said."""

import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.command import ROOT, SMOKE, finish, start, wait_for
from train import callbacks, fit
from train.main import main

TINY = ["--data=8gaussians", "--nblocks=1", "--dims=8", "--n_test=400", "--batchsize=50",
        "--val_every=100", "--save_every=10", "--n_dist=geometric"]
LONG = [*TINY, "--niters=5000", "--val_every=5", "--save_every=2"]


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


@pytest.mark.fast("--niters=50")
@pytest.mark.usefixtures("only_train")
@pytest.mark.parametrize("limit", ["--niters=50", "--niters=100", "--max_minutes=0.0001"])
def test_a_run_with_no_step_left_says_so_and_keeps_its_settings(saved, tmp_path, limit, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(saved, workdir)
    before = contents(workdir)
    args = [*TINY, "--niters=200", limit, "--lr=0.5", "--wd=0.1", f"--workdir={workdir}"]
    assert main(["x", *args]) == 0
    out = capsys.readouterr().out
    assert (f"at step 100 already ({workdir}/checkpoints/last/ckpt-100): nothing is left to train "
            f"with {limit}") in out
    assert "from now on" not in out and "continuing" not in out
    after = contents(workdir)
    assert {path: content for path, (_, content) in after.items()} == {
        path: content for path, (_, content) in before.items()}


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

    def spoiled(settings, split, start=0, **kwargs):
        batches = load(settings, split, start, **kwargs)
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
