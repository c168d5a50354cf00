"""Runs of several processes on this machine: the same weights, and what happens when one dies."""

import json
import random
import signal
import time

import numpy as np
import pytest

from tests.command import (KILLS, SMOKE, checkpoint, checkpoint_step, finish, start, start_workers,
                           wait_for)
from tests.test_faults import TINY
from train.main import main

pytestmark = pytest.mark.slow
SHORT = [SMOKE, "--nblocks=1", "--niters=20", "--val_every=20", "--val_batchsize=179",
         "--eval_probes=1", "--tolerance=0.1", "--n_sample_images=1",
         "--n_lipschitz_iters=5"]
STEPS = 200 + 100 * KILLS
LONG = [*TINY, f"--niters={STEPS}"]


@pytest.fixture(scope="module")
def float64(tmp_path_factory):
    """Keras's float type of a process: float32 sums differ by their order, and Adam enlarges it."""
    home = tmp_path_factory.mktemp("keras")
    (home / "keras.json").write_text(json.dumps({"floatx": "float64", "backend": "tensorflow"}))
    return {"KERAS_HOME": str(home)}


@pytest.fixture(scope="module")
def one_device(tmp_path_factory, float64):
    workdir = tmp_path_factory.mktemp("runs") / "one"
    [code], _, [error] = finish([start(*SHORT, f"--workdir={workdir}", module="tests.only_train",
                                       env=float64)])
    assert code == 0, error
    return checkpoint(workdir)


def alone(*args, env):
    return [start(*args, module="tests.only_train", env=env)]


def two_by_slurm(*args, env):
    step = {"SLURM_JOB_ID": str(random.randrange(20000)), "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2"}
    return [start(*args, env={**env, **step, "SLURM_PROCID": str(i)}) for i in range(2)]


@pytest.mark.parametrize("begin, args", [
    (two_by_slurm, ["--logical_cpus=2"]), (alone, ["--update_freq=2", "--batchsize=16"])],
    ids=["2 workers x 2 replicas", "2 micro-batches"])
def test_weights_after_20_steps_are_those_of_one_device(begin, args, one_device, float64,
                                                        tmp_path):
    """Weights, averages, moments, singular vectors: 1e-5 is asked for, 1e-9 is held."""
    codes, out, errors = finish(begin(*SHORT, f"--workdir={tmp_path / 'run'}", *args, env=float64))
    assert codes == [0] * len(codes), errors
    assert "step      20" in out[0] and "step      20" not in "".join(out[1:])
    assert len(out) == 1 or all("all 2 workers are here" in o for o in out)
    arrays = checkpoint(tmp_path / "run")
    assert len(arrays) > 60 and arrays.keys() == one_device.keys()
    for name, a in arrays.items():
        assert a.dtype.kind == "i" or a.dtype == np.float64
        np.testing.assert_allclose(a, one_device[name], rtol=1e-9, atol=1e-12)


@pytest.mark.exhaustive
def test_keras_fit_on_two_workers_of_two_replicas(tmp_path):
    """With the usual callbacks; after each epoch all four replicas have the same variables."""
    codes, _, errors = finish(start_workers(2, str(tmp_path), module="tests.keras_worker"))
    assert codes == [0, 0], errors
    for epoch in range(3):
        files = sorted(tmp_path.glob(f"*/epoch{epoch}-*.npz"))
        assert len(files) == 4
        first, *others = [np.load(f) for f in files]
        assert len(first.files) > 30 and {"loss", "val_loss"} <= set(first.files)
        for other in others:
            for name in first.files:
                np.testing.assert_array_equal(first[name], other[name], err_msg=name)
    assert np.load(files[0])["val_loss"] < np.load(tmp_path / "0" / "epoch0-0.npz")["val_loss"]


def begin_long(*args):
    return start_workers(2, *LONG, *args, module="tests.only_train")


def test_one_of_two_workers_killed_again_and_again_all_end_as_if_undisturbed(tmp_path):
    """kill -9 of either at a random moment; the other says so and ends within a minute."""
    undisturbed, workdir, moments = tmp_path / "undisturbed", tmp_path / "run", random.Random(0)
    codes, _, errors = finish(begin_long(f"--workdir={undisturbed}"))
    assert codes == [0, 0], errors
    step, longest = 0, 0.0
    for i in range(KILLS):
        workers = begin_long(f"--workdir={workdir}")
        # In training, past a checkpoint, or already while the model is built and traced.
        for text in ["workers are here"] if i % 2 else 2 * ["  validation "]:
            wait_for(workers[0], text)
        time.sleep(moments.uniform(0, 8 if i % 2 else 1))
        victim = moments.randrange(2)
        workers[victim].kill()
        began = time.monotonic()
        codes, _, errors = finish(workers)
        longest = max(longest, time.monotonic() - began)
        assert codes[1 - victim] == 6, errors
        assert f"worker {1 - victim} has lost another of the 2 workers" in errors[1 - victim]
        assert checkpoint_step(workdir) >= step
        step = checkpoint_step(workdir)
    assert longest < 60 and 100 <= step < STEPS, (longest, step)
    codes, out, errors = finish(begin_long(f"--workdir={workdir}"))
    assert codes == [0, 0], errors
    assert f"continuing from step {step}" in out[0]
    assert_equal(checkpoint(workdir), checkpoint(undisturbed))


def test_a_signal_to_one_worker_stops_all_at_the_same_step(tmp_path):
    workers = start_workers(2, *LONG, "--niters=50000", "--save_every=50000",
                            f"--workdir={tmp_path / 'run'}")
    wait_for(workers[0], "  validation ")
    workers[1].send_signal(signal.SIGTERM)
    codes, _, errors = finish(workers)
    assert codes == [143, 143] and all("SIGTERM: saved" in e for e in errors)
    assert 100 < checkpoint_step(tmp_path / "run") < 50000  # no validation saves there


@pytest.mark.parametrize("config, message", [
    ("{", "TF_CONFIG must be as"), ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be as"),
    ('{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 2}}',
     "TF_CONFIG must be as"), ("", "--strategy=multiworker needs TF_CONFIG, or a Slurm step")])
def test_a_bad_cluster_is_one_clear_line(config, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TF_CONFIG", config)
    code = main(["x", *SHORT, f"--workdir={tmp_path / 'run'}", "--strategy=multiworker"])
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and message in error
    assert error.count("\n") == 1 and not (tmp_path / "run").exists()


def assert_equal(arrays, others):
    assert arrays.keys() == others.keys() and len(arrays) > 30
    for name, a in arrays.items():
        np.testing.assert_allclose(a, others[name], rtol=1e-6, atol=1e-7, err_msg=name)
