"""Runs that are killed, stopped, or go wrong: what was saved, and what is said."""

import json
import signal
import time

import numpy as np
import PIL.Image

from tests.command import LONG, SMOKE, start, wait_for
from train import callbacks
from train.main import main


def test_killed_at_any_moment_it_goes_on(tmp_path):
    """kill -9 after different times, the last with a checkpoint damaged as well."""
    workdir, step = tmp_path / "run", 0
    for delay in (0.0, 0.37):
        process = start(*LONG, f"--workdir={workdir}")
        lines = wait_for(process, " left")
        time.sleep(delay)
        process.kill()
        process.communicate()
        if step:
            [line] = [line for line in lines if "continuing from step" in line]
            assert int(line.split()[3]) >= step
        step = int([line for line in lines if line.startswith("step")][0].split()[1])
    last = sorted((workdir / "checkpoints" / "last").glob("*.index"),
                  key=lambda path: int(path.stem.split("-")[1]))
    last[-1].write_bytes(last[-1].read_bytes()[:20])
    process = start(*LONG, f"--workdir={workdir}")
    lines = wait_for(process, " left")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    [line] = [line for line in lines if "continuing from step" in line]
    assert int(line.split()[3]) == int(last[-2].stem.split("-")[1])
    assert "is not readable and is skipped" in err
    # And SIGINT saved.
    assert process.returncode == 130 and "SIGINT: saved" in err and "Traceback" not in err
    saved = max(int(path.stem.split("-")[1])
                for path in (workdir / "checkpoints" / "last").glob("*.index"))
    assert saved >= int(line.split()[3])


def test_time_limit(tmp_path):
    began = time.monotonic()
    assert main(["x", *LONG, f"--workdir={tmp_path / 'run'}", "--max_minutes=0.15"]) == 0
    assert time.monotonic() - began < 90
    assert 0 < json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] < 5000


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["x", *LONG, f"--workdir={workdir}", "--lr=1e30", "--warmup_iters=0",
                 "--optimizer=sgd", "--clip=0"]) == 4
    error = capsys.readouterr().err
    assert "the loss or the gradient is not finite at step 2" in error
    assert "first bad: the value of block" in error and "There is no checkpoint yet" in error


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
                 f"--workdir={tmp_path / 'run'}"]) == 2
    assert f"error: {path}: not a readable image (Invalid PNG data" in capsys.readouterr().err
