"""End to end, through the command line that users type."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from tests.command import ROOT, SMOKE, checkpoint, checkpoint_step, start, wait_for
from train import flags
from train.main import main

pytestmark = pytest.mark.optimised

RUN = [SMOKE, "--nblocks=1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A smoke run, done once: its workdir and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "smoke"
    process = start(*RUN, f"--workdir={workdir}")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return workdir, out


@pytest.mark.slow
def test_train_evaluates_and_samples(trained):
    workdir, out = trained
    assert "step       6" in out and "left" in out and "test bits/dim" in out
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["step"] == 12 and metrics["num_test_examples"] == 180
    assert metrics["bits_per_dim"] < 4 and metrics["bits_per_dim_stderr_data"] > 0
    assert 0 < metrics["bits_per_dim_stderr_probes"] < metrics["bits_per_dim_stderr_data"]
    assert metrics["reconstruction_error"] < 1e-4
    assert 0.9 < metrics["largest_norm"] <= 0.98 + 1e-3
    assert len(metrics["lipschitz_bound_of_block"]) == 2 and len(metrics["layers"]) == 6
    assert metrics["certified"] and max(metrics["lipschitz_bound_of_block"].values()) < 1
    assert (workdir / "norms.txt").read_text().count("\n") == 8
    assert (workdir / "norms.png").stat().st_size > 5000
    assert 2.0 < metrics["histogram_bits_per_dim"] < 2.6
    for name in ("samples.png", "data.png"):
        assert PIL.Image.open(workdir / name).size == (3 * (4 * 9 + 1),) * 2
    assert PIL.Image.open(workdir / "curve.png").size[0] > 300
    assert (workdir / "log.csv").read_text().count("\n") == 3
    assert list((workdir / "tensorboard").rglob("events*"))
    assert len(list((workdir / "checkpoints" / "last").glob("*.index"))) == 2
    assert len(list((workdir / "checkpoints" / "best").glob("*.index"))) == 1


@pytest.mark.exhaustive
def test_variational_noise_end_to_end(tmp_path):
    """More draws are a tighter bound; pictures and reconstructions are of pixels."""
    args = [*RUN, "--dequantise=variational", "--dequantise_idim=4", f"--workdir={tmp_path}"]
    assert main(["x", *args]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["bits_per_dim"] < 4 and metrics["num_noise_draws"] == 1
    assert metrics["bits_per_dim"] == pytest.approx(metrics["nll_nats"] / 64 / math.log(2))
    assert metrics["reconstruction_error"] < 1e-4 and metrics["certified"]
    shades = np.unique(PIL.Image.open(tmp_path / "data.png"))
    assert shades.min() == 0 and shades.max() == 255 and len(shades) > 10
    tighter = evaluated(tmp_path, "--eval_draws=4")
    assert tighter["num_noise_draws"] == 4
    assert tighter["bits_per_dim"] < metrics["bits_per_dim"] - 0.001


def evaluated(workdir, *args):
    """The metrics of `eval`."""
    assert main(["x", "eval", f"--workdir={workdir}", *args]) == 0
    return json.loads((workdir / "metrics.json").read_text())


@pytest.fixture(scope="module")
def again(trained, tmp_path_factory):
    """The metrics of the smoke run, evaluated once more, in this process."""
    workdir = tmp_path_factory.mktemp("runs") / "again"
    shutil.copytree(trained[0], workdir)
    return evaluated(workdir)


@pytest.mark.slow
def test_eval_repeats_and_needs_no_flagfile(trained, again, tmp_path, capsys):
    """The same numbers to the last bit; of another process, to the rounding of its threads."""
    shutil.copytree(trained[0], tmp_path / "run")
    metrics = [json.loads((trained[0] / "metrics.json").read_text()), dict(again),
               evaluated(tmp_path / "run")]
    for of_a_run in metrics:
        of_a_run.pop("evaluation_seconds")
    assert metrics[1] == metrics[2]
    assert metrics[1].pop("reconstruction_error") < 1e-4 > metrics[0].pop("reconstruction_error")
    names = {name for name, value in metrics[0].items() if isinstance(value, (int, float))}
    assert len(names) > 10 and metrics[1].keys() == metrics[0].keys()
    for name in names:
        # The width of bounds is a difference of two near numbers.
        rel = 1e-2 if name.endswith("truncation") else 1e-5
        assert metrics[1][name] == pytest.approx(metrics[0][name], rel=rel), name
    assert "largest operator norm" in capsys.readouterr().out


@pytest.mark.slow
def test_an_inverse_that_does_not_converge_takes_nothing_else_with_it(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    assert main(["x", "eval", f"--workdir={tmp_path / 'run'}", "--max_solver_steps=1"]) == 3
    printed = capsys.readouterr()
    assert "reconstruction error" in printed.out and "not converged" in printed.out
    assert "did not converge" in printed.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["bits_per_dim"] < 4 and metrics["reconstruction_error"] is None


@pytest.mark.slow
def test_exact_evaluation_agrees_within_the_error_of_the_probes(trained, tmp_path):
    estimated = json.loads((trained[0] / "metrics.json").read_text())
    shutil.copytree(trained[0], tmp_path / "run")
    exact = evaluated(tmp_path / "run", "--exact")
    assert exact["bits_per_dim_stderr_probes"] == 0
    # Two draws give a rough error; a tenth of the error over data bounds it from above.
    tolerance = max(6 * estimated["bits_per_dim_stderr_probes"], 2e-3)
    assert abs(exact["bits_per_dim"] - estimated["bits_per_dim"]) < tolerance


@pytest.mark.slow
def test_sample_with_flags_of_its_own(trained):
    workdir, _ = trained
    sample = ["x", "sample", f"--workdir={workdir}", "--n_sample_images=4"]
    pictures = []
    for given in (["--temperature=0.7"], ["--temperature=0.7"], ["--temperature=0"]):
        assert main([*sample, *given]) == 0
        pictures.append(np.asarray(PIL.Image.open(workdir / "samples.png")))
    assert pictures[0].shape[:2] == (3 * (2 * 9 + 1),) * 2
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_train_again_does_not_train_again(trained, capsys):
    workdir, _ = trained
    before = checkpoint(workdir)
    assert main(["x", *RUN, f"--workdir={workdir}"]) == 0
    assert "at step 12 already" in capsys.readouterr().out
    assert checkpoint_step(workdir) == 12
    for name, value in checkpoint(workdir).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_a_resumed_run_ends_where_an_undisturbed_one_does(again, tmp_path):
    """Six steps, then six in another run: the weights of twelve in one."""
    assert main(["x", *RUN, f"--workdir={tmp_path / 'run'}", "--niters=6"]) == 0
    assert main(["x", *RUN, f"--workdir={tmp_path / 'run'}", "--niters=12"]) == 0
    parts = evaluated(tmp_path / "run")
    assert parts["step"] == again["step"] == 12
    assert parts["bits_per_dim"] == pytest.approx(again["bits_per_dim"], abs=1e-5)


@pytest.mark.slow
def test_toy_densities(tmp_path):
    workdir = tmp_path / "run"
    assert main(["x", "--flagfile=configs/toy.cfg", "--data=8gaussians", f"--workdir={workdir}",
                 "--nblocks=2", "--dims=8", "--niters=4", "--val_every=2", "--n_test=500",
                 "--exact", "--batchsize=50"]) == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert np.isfinite(metrics["nll_nats"]) and 2.82 < metrics["entropy_nats"] < 2.85
    assert PIL.Image.open(workdir / "density.png").size[0] > 300


@pytest.mark.slow
def test_no_readable_checkpoint_is_said_and_nothing_is_trained_over_it(trained, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    # TensorFlow's own file `checkpoint` has paths relative to it: the copy is whole.
    for path in (workdir / "checkpoints" / "last").glob("*.index"):
        path.write_bytes(b"")
    assert main(["x", *RUN, f"--workdir={workdir}"]) == 2
    assert "no checkpoint in" in capsys.readouterr().err.splitlines()[-1]
    for damaged in (b"", b"garbage", b"\xff\xfe"):
        (workdir / "checkpoints" / "last" / "checkpoint").write_bytes(damaged)
        assert main(["x", *RUN, f"--workdir={workdir}"]) == 2
        assert "last/checkpoint is damaged: the list" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["importing", "evaluating"])
def test_ctrl_c_outside_of_training(trained, when):
    process = start("eval", f"--workdir={trained[0]}", "--eval_probes=2000")
    if when == "evaluating":
        wait_for(process, "evaluated ")
    else:
        time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.startswith("error: SIGINT: stopped")
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_workdir_of_another_model_is_refused(trained, capsys):
    workdir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    for command in ("train", "eval"):
        assert main(["x", command, *RUN, f"--workdir={workdir}", "--idim=9", "--coeff=0.5"]) == 2
        error = capsys.readouterr().err
        assert "coeff (there 0.98, here 0.5), idim (there 8, here 9)" in error
        assert error.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}


@pytest.mark.parametrize("module", ["tfresflow", "train.main"])
def test_ways_in(module, tmp_path):
    """Both check their flags before they load TensorFlow; `tfresflow` in any folder."""
    folder = tmp_path if module == "tfresflow" else ROOT
    (tmp_path / "train.py").write_text("raise RuntimeError('not ours')")
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError('loaded')")
    for args, text in ((["--help"], "--dataroot"), (["--coeff=2"], "--coeff must be in (0, 1)")):
        done = subprocess.run(
            [sys.executable, "-m", module, *args], cwd=folder, text=True,
            env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}" if folder == ROOT else str(ROOT)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert text in done.stdout + done.stderr, done
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_package_started_by_name_may_import_ours(tmp_path):
    """The whole of it, though Python is looking for a `__main__` then, too."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import tfresflow")
    (tmp_path / "mine" / "__main__.py").write_text("import tfresflow\n"
                                                   "print(tfresflow.FlowModel.__name__)")
    done = subprocess.run([sys.executable, "-m", "mine"], cwd=tmp_path, text=True,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    assert done.stdout == "FlowModel\n"


def test_the_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = flags.parse(["x", "--workdir=~/run", "--data=csv", "--dataroot=~/table.csv"])
    assert settings.workdir == str(tmp_path / "run")
    assert settings.dataroot == str(tmp_path / "table.csv")
