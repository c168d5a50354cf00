"""End to end, through the command line that users type."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from train import callbacks, data, flags
from train.build import build_model, build_optimizer
from train.main import main

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.cfg"))
SMOKE = f"--flagfile={ROOT / 'configs' / 'smoke.cfg'}"


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A smoke run, done once: its workdir and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "smoke"
    process = start(SMOKE, f"--workdir={workdir}")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return workdir, out


def test_train_evaluates_and_samples(trained):
    workdir, out = trained
    assert "step       6" in out and "left" in out and "test bits/dim" in out
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["step"] == 12 and metrics["num_test_examples"] == 180
    assert metrics["bits_per_dim"] < 4 and metrics["bits_per_dim_stderr_data"] > 0
    assert 0 < metrics["bits_per_dim_stderr_probes"] < metrics["bits_per_dim_stderr_data"]
    assert metrics["reconstruction_error"] < 1e-4
    assert 0.9 < metrics["largest_norm"] <= 0.98 + 1e-3
    assert len(metrics["largest_norm_of_block"]) == 3
    assert 2.0 < metrics["histogram_bits_per_dim"] < 2.6
    for name in ("samples.png", "data.png"):
        assert PIL.Image.open(workdir / name).size == (3 * (4 * 9 + 1),) * 2
    assert PIL.Image.open(workdir / "curve.png").size[0] > 300
    assert (workdir / "log.csv").read_text().count("\n") == 3
    assert list((workdir / "tensorboard").rglob("events*"))
    assert len(list((workdir / "checkpoints" / "last").glob("*.index"))) == 2
    assert len(list((workdir / "checkpoints" / "best").glob("*.index"))) == 1


def test_eval_repeats_and_needs_no_flagfile(trained, capsys):
    """The same numbers to the last bit; of another process, to the rounding of its threads."""
    workdir, _ = trained
    metrics = [json.loads((workdir / "metrics.json").read_text())]
    for _ in range(2):
        assert main(["x", "eval", f"--workdir={workdir}"]) == 0
        metrics.append(json.loads((workdir / "metrics.json").read_text()))
    for of_a_run in metrics:
        of_a_run.pop("evaluation_seconds"), of_a_run.pop("largest_norm_of_block")
    assert metrics[1] == metrics[2]
    assert metrics[1].pop("reconstruction_error") < 1e-4 > metrics[0].pop("reconstruction_error")
    names = {name for name, value in metrics[0].items() if isinstance(value, (int, float))}
    assert len(names) > 10 and metrics[1].keys() == metrics[0].keys()
    for name in names:
        assert metrics[1][name] == pytest.approx(metrics[0][name], rel=1e-5), name
    assert "largest operator norm" in capsys.readouterr().out


def test_exact_evaluation_agrees_within_the_error_of_the_probes(trained):
    workdir, _ = trained
    estimated = json.loads((workdir / "metrics.json").read_text())
    assert main(["x", "eval", f"--workdir={workdir}", "--exact"]) == 0
    exact = json.loads((workdir / "metrics.json").read_text())
    assert exact["bits_per_dim_stderr_probes"] == 0
    # Two draws give a rough error; a tenth of the error over data bounds it from above.
    tolerance = max(6 * estimated["bits_per_dim_stderr_probes"], 2e-3)
    assert abs(exact["bits_per_dim"] - estimated["bits_per_dim"]) < tolerance


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


def test_train_again_does_not_train_again(trained, capsys):
    workdir, _ = trained
    assert main(["x", SMOKE, f"--workdir={workdir}"]) == 0
    assert "continuing from step 12" in capsys.readouterr().out
    assert json.loads((workdir / "metrics.json").read_text())["step"] == 12


LONG = [SMOKE, "--niters=5000", "--val_every=5", "--save_every=2"]


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


def test_a_resumed_run_ends_where_an_undisturbed_one_does(trained, tmp_path):
    """Six steps, then six in another process: the weights of twelve in one."""
    workdir, _ = trained
    assert main(["x", SMOKE, f"--workdir={tmp_path / 'run'}", "--niters=6"]) == 0
    assert main(["x", SMOKE, f"--workdir={tmp_path / 'run'}", "--niters=12"]) == 0
    whole, parts = (json.loads((w / "metrics.json").read_text())
                    for w in (workdir, tmp_path / "run"))
    assert parts["step"] == whole["step"] == 12
    assert parts["bits_per_dim"] == pytest.approx(whole["bits_per_dim"], abs=1e-5)


def test_time_limit(tmp_path):
    began = time.monotonic()
    assert main(["x", *LONG, f"--workdir={tmp_path / 'run'}", "--max_minutes=0.15"]) == 0
    assert time.monotonic() - began < 90
    assert 0 < json.loads((tmp_path / "run" / "metrics.json").read_text())["step"] < 5000


@pytest.mark.parametrize("data, picture", [("8gaussians", "density.png"), ("csv", "columns.png")])
def test_vectors(tmp_path, data, picture):
    table = tmp_path / "table.csv"
    np.savetxt(table, np.random.RandomState(0).randn(300, 2) * [1, 40] + 5, delimiter=",")
    config = "toy" if data == "8gaussians" else "tabular"
    workdir = tmp_path / "run"
    assert main(["x", f"--flagfile=configs/{config}.cfg", f"--data={data}", f"--dataroot={table}",
                 f"--workdir={workdir}", "--nblocks=2", "--dims=8", "--niters=4", "--val_every=2",
                 "--n_test=500", "--exact", "--batchsize=50"]) == 0
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert np.isfinite(metrics["nll_nats"]) and PIL.Image.open(workdir / picture).size[0] > 300
    if data == "csv":
        difference = metrics["nll_nats_original_units"] - metrics["nll_nats"]
        assert difference == pytest.approx(np.log(40), abs=0.3)
    else:
        assert 2.82 < metrics["entropy_nats"] < 2.85


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    workdir = tmp_path / "run"
    assert main(["x", *LONG, f"--workdir={workdir}", "--lr=1e30", "--warmup_iters=0",
                 "--optimizer=sgd", "--clip=0"]) == 4
    error = capsys.readouterr().err
    assert "the loss is not finite at step" in error and "last good checkpoint" in error


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


def test_no_readable_checkpoint_is_said_and_nothing_is_trained_over_it(trained, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(trained[0], workdir)
    # TensorFlow's own file `checkpoint` has paths relative to it: the copy is whole.
    for path in (workdir / "checkpoints" / "last").glob("*.index"):
        path.write_bytes(b"")
    assert main(["x", SMOKE, f"--workdir={workdir}"]) == 2
    assert "no checkpoint in" in capsys.readouterr().err.splitlines()[-1]


def test_ctrl_c_outside_of_training(trained):
    process = start("eval", f"--workdir={trained[0]}", "--eval_probes=2000")
    time.sleep(15)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and error.startswith("error: SIGINT: stopped")
    assert error.count("\n") == 1


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


@pytest.mark.parametrize("args, message", [
    (["--nblock=3"], "Unknown command line flag 'nblock'. Did you mean: nblocks"),
    (["--nblocks=4-x"], "--nblocks must be positive whole numbers with dashes between"),
    (["--coeff=1.2"], "--coeff must be in (0, 1). Received: --coeff=1.2"),
    (["--lr=nan"], "--lr must be positive. Received: --lr=nan"),
    (["--act=tanh"], "flag --act=tanh: value should be one of <swish|elu"),
    (["--batchsize=many"], "flag --batchsize=many: invalid literal for int()"),
    (["--vnorms=222f"], "--vnorms must be all 2"),
    (["--data=nothing"], "flag --data=nothing: value should be one of <mnist5k|"),
    (["evaluate"], "the command must be one of train, eval, sample. Received: evaluate. "
                   "Did you mean eval?"),
    (["--flagfile=configs/none.cfg"], "configs/none.cfg"),
    (["--seed=99999999999"], "--seed must be less than 2^31"),
    (["--data=folder"], "--dataroot must name the file or folder for --data=folder"),
    (["--data=folder", "--dataroot=nowhere"], "--dataroot=nowhere: no such folder"),
    (["--data=csv", "--dataroot=nowhere.csv"], "--dataroot=nowhere.csv: no such file"),
    (["--data=digits", "--nbits=4"], "must have height and width divisible by"),
    (["--data=moons"], "--nblocks must be one number for vectors"),
    (["eval", "--workdir=runs/none"], "--workdir=runs/none holds no run"),
])
def test_bad_input_is_one_clear_line(args, message, capsys, tmp_path):
    """16x16 blocks do not fit 8x8 digits with four scales, and so on."""
    if "--data=digits" in args:
        args = [*args, "--nblocks=1-1-1-1-1"]
    workdir = [] if any(a.startswith("--workdir") for a in args) else [
        f"--workdir={tmp_path / 'run'}"]
    assert main(["x", *args, *workdir]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and message in captured.err, captured.err
    assert captured.err.count("\n") == 1 and not captured.out
    assert not (tmp_path / "run").exists()


def test_a_workdir_of_another_model_is_refused(trained, capsys):
    workdir, _ = trained
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    for command in ("train", "eval"):
        assert main(["x", command, SMOKE, f"--workdir={workdir}", "--idim=9", "--coeff=0.5"]) == 2
        error = capsys.readouterr().err
        assert "coeff (there 0.98, here 0.5), idim (there 8, here 9)" in error
        assert error.count("\n") == 1
    assert before == {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}


def test_help(capsys):
    assert main(["x", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--nblocks=16-16-16" in out and "--noadd_noise" not in out and "--add_noise" in out


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_are_read(config):
    settings = flags.parse(["x", f"--flagfile=configs/{config}", "--dataroot=x"])
    text = (ROOT / "configs" / config).read_text()
    if config != "common.cfg":
        assert all(f"# {word}:" in text for word in ("command", "hardware", "result"))
    defaults = flags.parse(["x", "--dataroot=x"])
    assert config == "common.cfg" or settings != defaults


def test_published_settings_are_the_references():
    cifar = flags.parse(["x", "--flagfile=configs/cifar10.cfg"])
    assert (cifar.nblocks, cifar.idim, cifar.coeff, cifar.batchsize, cifar.lr, cifar.n_lambda) == (
        "16-16-16", 512, 0.98, 64, 1e-3, 2.0)
    celeba = flags.parse(["x", "--flagfile=configs/celebahq256.cfg", "--dataroot=x"])
    assert (celeba.nbits, celeba.act, celeba.fc_end, celeba.factor_out, celeba.squeeze_first,
            celeba.update_freq, celeba.n_exact_terms) == (5, "elu", False, True, True, 5, 8)


def test_the_full_cifar10_model_takes_a_training_step():
    """25 million weights; on photographs of the same size, which need no download."""
    settings = flags.parse(["x", "--flagfile=configs/cifar10.cfg", "--data=photos",
                            "--batchsize=2", "--noema_val"])
    model = build_model(settings)
    model.compile(build_optimizer(settings))
    x = next(iter(data.load(settings, "train")))
    model.initialize(x)
    before = [w.numpy() for w in model.trainable_weights]
    logs = model.train_on_batch(x, return_dict=True)
    assert sum(w.size for w in before) == 25174129 and 4 < logs["bpd"] < 10
    moved = [np.any(w != old) for w, old in zip(model.trainable_weights, before)]
    assert np.mean(moved) == 1


def test_demo_builds_as_it_says():
    model = build_model(flags.parse(["x", "--flagfile=configs/mnist5k.cfg"]))
    assert model.nbits == 8 and model.flow.event_shape == (28, 28, 1)
    assert len(model.flow.lipschitz_layers()) == 4 + 4 + 4 + 4
