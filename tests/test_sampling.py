"""`--task=sampling`: flags, runs, resumed runs, what is measured and what it is compared with."""

import json

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf

from bijectors import ActNorm, Inverted
from tests.command import checkpoint, finish, start, start_workers
from tests.test_flags import TYPED
from tests.test_workers import float64  # noqa: F401
from tfresflow import FlowModel, logdet, losses, targets
from train import callbacks, flags
from train.build import build_loss, build_model
from train.main import main
from train.sampling import lattices, weighing
from train.sampling.hmc import hmc
from train.sampling.plaquettes import charge_probabilities, plaquette_density
from train.sampling.targets import build_target
from train.settings import Settings

SAMPLING = ["--task=sampling", "--nblocks=1", "--dims=6", "--idim=4", "--niters=4", "--val_every=2",
            "--n_test=64", "--val_batchsize=64", "--batchsize=32", "--n_importance=128",
            "--warmup_iters=0", "--n_sample_images=4", "--n_dist=geometric"]
PHI4 = ["--target=phi4", "--act=sin", "--lattice=4"]


def run(*args):
    return main(["x", *SAMPLING, *args])


def parsed(*args):
    return flags.parse(["x", *SAMPLING, *args])


# Flags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args, message", [
    (["--target=many_well", "--dimensions=5"], "--dimensions must be even for --target=many_well"),
    (["--dimensions=1"], "--dimensions must be at least 2. Received: --dimensions=1"),
    (["--target=phi4", "--act=sin", "--lam=0"], "--m2 must be positive for --target=phi4 with"),
    (["--target=phi4", "--act=sin", "--m2=nan"], "--m2 must be a finite number"),
    (["--target=phi4", "--act=swish"], "--act must be sin or tanh for --target=phi4, whose action"),
    ([*PHI4, "--kl=forward"], "--kl must be reverse for --target=phi4, of which there are no exa"),
    (["--target=u1", "--block=coupling"], "--block must not be coupling for --target=u1"),
    (["--target=ising"], "flag --target=ising: value should be one of <gmm|many_well|funnel|"),
    (["ood", "--data_out=moons"], "--task must not be sampling for ood, which is about data"),
    ([*PHI4, "--nblocks=2-2"], "--nblocks must be one number for fields, which have no scales"),
    (["--strategy=mirrored", "--logical_cpus=2", "--batchsize=33"],
     "--batchsize must be a multiple of the 2 replicas. Received: --batchsize=33")])
def test_bad_flags_are_one_clear_line(args, message, capsys, tmp_path):
    if args[0] == "ood":
        flags.save(parsed(), tmp_path, "")
    assert run(*args, f"--workdir={tmp_path if args[0] == 'ood' else tmp_path / 'run'}") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("args, said", [
    (["--beta=1", "--dims=3", "--data=moons", "--nbits=3", "--autodiff=stored"],
     "autodiff beta data nbits"),
    ([*PHI4, "--dimensions=6", "--idim=3", "--beta=1", "--m2=-3", "--preact"], "beta dimensions"),
    (["--target=u1", "--act=swish", "--lam=3", "--preact", "--actnorm", "--exact", "--lattice=5"],
     "actnorm exact lam preact"),
    (["--target=u1", "--exact", "--tolerance=0.1", "--beta=1"], "tolerance"),
    (["eval", "--kl_gradient=path", "--n_test=5", "--n_importance=9", "--val_batchsize=7",
      "--temperature=1", "--kl=reverse"], "kl_gradient n_test temperature"),
    (["--task=density", "--data=moons", "--target=u1", "--kl=reverse", "--n_importance=9"],
     "kl n_importance target")])
def test_flags_that_do_nothing_are_told(args, said, capsys, tmp_path):
    workdir = [f"--workdir={tmp_path}"] * (args[0] == "eval")
    flags.save(parsed(), tmp_path, "")
    capsys.readouterr()
    flags.parse(["x", *args, "--task=sampling", *workdir] if "--task=density" not in args
                else ["x", *args])
    lines = capsys.readouterr().err.splitlines()
    assert all(" has no effect with" in line for line in lines)
    assert sorted(line.split()[1].lstrip("-") for line in lines) == said.split()


@pytest.mark.parametrize("command, target, used", [
    ("eval", "gmm", ""), ("eval", "u1", "exact tolerance"), ("sample", "funnel", "sample_seed"),
    ("sample", "u1", "sample_seed exact tolerance n_sample_images")])
def test_each_flag_that_a_command_does_not_look_at_is_told(command, target, used, tmp_path, capsys):
    flags.save(Settings(task="sampling", target=target), tmp_path, "")
    always = "val_batchsize checkpoint n_importance solver rtol atol max_solver_steps"
    for name, typed in TYPED.items():
        flags.parse(["x", command, f"--workdir={tmp_path}", typed])
        works = name in f"{used} {always}".split()
        assert (f"--{name} has no effect" in capsys.readouterr().err) == (not works), name


def test_a_run_has_its_target_for_good_and_may_change_the_gradient(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = parsed("--target=u1", "--act=swish")
    assert settings.workdir == "runs/u1" and settings.subject == "u1"
    flags.save(settings, tmp_path, "")
    with pytest.raises(ValueError, match=r"beta \(there 2.0, here 1.0\), kl \(there 'reverse'"):
        flags.conflicts(parsed("--target=u1", "--beta=1", "--kl=forward"), tmp_path)
    other = parsed("--target=u1", "--kl_gradient=standard", "--n_importance=3", "--n_test=5")
    flags.conflicts(other, tmp_path)
    assert flags.changes(other, tmp_path) == [
        "--kl_gradient is standard from now on (until now path)"]


@pytest.mark.parametrize("args, target", [
    (["--dimensions=3"], targets.GaussianMixture(3)),
    (["--target=many_well"], targets.ManyWell(6)), (["--target=funnel"], targets.Funnel(6)),
    ([*PHI4, "--m2=-3.5", "--lam=5"], targets.Phi4(4, -3.5, 5.0)),
    (["--target=u1", "--lattice=3", "--beta=1.5"], targets.U1(3, 1.5))])
@pytest.mark.parametrize("kl, gradient", [("ReverseKL", "DropIn"), ("ReverseKL", "Path"),
                                          ("ForwardKL", "Standard")])
def test_flags_of_the_divergence(args, target, kl, gradient):
    name = {"DropIn": "drop_in"}.get(gradient, gradient.lower())
    if kl == "ForwardKL" and not hasattr(target, "sample"):
        return
    settings = parsed(*args, f"--kl={kl[:7].lower()}", f"--kl_gradient={name}")
    want = getattr(losses, kl)(target, getattr(losses, gradient)())
    assert build_target(settings) == target and build_loss(settings) == want
    assert build_loss(flags.parse(["x"])) is None


@pytest.mark.parametrize("args, kinds", [
    ([], ["ActNorm", "InvertibleResidual"]),
    (["--sampler=solved"], ["Chain", "ActNorm"]),
    (["--noactnorm"], ["InvertibleResidual"]), (PHI4, ["ActNorm", "InvertibleResidual"]),
    ([*PHI4, "--block=coupling"], ["Coupling"]), ([*PHI4, "--block=monotone"],
                                                  ["ActNorm", "Monotone"]),
    (["--target=u1"], ["InvertibleResidual"])])
def test_flows(args, kinds):
    """Samples are evaluated, or solved for; the base is uniform where x is angles."""
    settings = parsed(*args)
    model = build_model(settings)
    assert isinstance(model.flow, Inverted) == ("--sampler=solved" not in args)
    chain = getattr(model.flow, "flow", model.flow)
    assert [type(b).__name__ for b in chain.bijectors] == kinds
    shape = build_target(settings).event_shape
    assert tuple(model.flow.event_shape) == shape
    x = model.sample(3, seed=0)
    assert x.shape == (3, *shape)
    if settings.target == "u1":
        np.testing.assert_allclose(model.base.log_prob(x), -128 * np.log(2 * np.pi), rtol=1e-6)


# Runs -------------------------------------------------------------------------------------------


WRITTEN = {name: ["samples.png", "columns.png"] for name in ("gmm", "many_well", "funnel")} | {
    name: ["fields.png", "observables.png"] for name in ("phi4", "u1")}


@pytest.mark.slow
@pytest.mark.parametrize("name, args", [
    ("gmm", ["--dimensions=2"]), ("many_well", ["--kl=forward"]),
    ("funnel", ["--kl=forward", "--sampler=solved"]),
    ("phi4", PHI4), ("phi4", [*PHI4, "--lam=0", "--m2=1", "--kl=forward", "--kl_gradient=drop_in"]),
    ("u1", ["--target=u1", "--lattice=3", "--beta=0.5"])],
    ids=["gmm", "many_well", "funnel", "phi4", "free", "u1"])
def test_train_evaluates_and_samples(name, args, tmp_path, capsys):
    assert run(f"--target={name}", *args, f"--workdir={tmp_path}") == 0
    captured = capsys.readouterr()
    assert captured.out.count("ESS") == 2 and "log Z, nats" in captured.out
    log = pd.read_csv(tmp_path / "log.csv")
    assert list(log.step) == [2, 4] and log.notna().all().all()
    assert log[["ess", "val_ess"]].min().min() > 0 and log[["ess", "val_ess"]].max().max() <= 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["step"] == 4 and metrics["num_samples"] == 128 and metrics["exact_densities"]
    exact = build_target(parsed(f"--target={name}", *args)).log_z
    assert metrics["log_z_exact"] == exact
    assert (metrics["forward_ess"] is None) == (exact is None)
    assert metrics["target"] == name and metrics["certified"]
    assert 0 < metrics["ess"] <= 1 and 0 <= metrics["acceptance"] <= 1
    # Jensen: the mean of log w is below the log of the mean, for any sample.
    assert -metrics["loss"] < metrics["log_z"] < np.inf and metrics["log_z_stderr"] > 0
    assert metrics["reconstruction_error"] < 1e-4
    for written in (*WRITTEN[name], "curve.png"):
        assert PIL.Image.open(tmp_path / written).size[0] >= 50
    samples = np.load(tmp_path / "samples.npz")
    assert len(samples["x"]) == len(samples["log_weights"]) == 128
    target = build_target(parsed(f"--target={name}", *args))
    np.testing.assert_allclose(samples["log_weights"] + samples["log_q"],
                               target.log_prob(samples["x"]), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_samples_repeat_and_have_a_seed_of_their_own(tmp_path):
    assert run("--target=gmm", f"--workdir={tmp_path}") == 0
    found = []
    for args in ([], [], ["--sample_seed=5"], ["--n_importance=70"]):
        assert main(["x", "sample", f"--workdir={tmp_path}", *args]) == 0
        found.append(np.load(tmp_path / "samples.npz")["x"])
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[3], found[0][:70], rtol=1e-5)
    assert not np.allclose(found[0], found[2])


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
@pytest.mark.parametrize("args", [["--target=gmm"], ["--target=funnel", "--kl=forward"]],
                         ids=["reverse", "forward"])
def test_a_resumed_run_ends_where_an_undisturbed_one_does(args, tmp_path, monkeypatch, capsys):
    """At the same draws, and with the means of whole intervals."""
    args = [*args, "--niters=12", "--val_every=8", "--save_every=3"]
    assert run(*args, f"--workdir={tmp_path / 'whole'}") == 0
    untouched = callbacks.Checkpoints.on_train_batch_end

    def killed(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 7:
            raise KeyboardInterrupt
        return untouched(self, batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Checkpoints, "on_train_batch_end", killed)
        assert run(*args, f"--workdir={tmp_path / 'run'}") == 130
    assert run(*args, f"--workdir={tmp_path / 'run'}") == 0
    assert "continuing from step 6" in capsys.readouterr().out
    arrays, want = (checkpoint(tmp_path / name) for name in ("run", "whole"))
    assert arrays.keys() == want.keys() and len(arrays) > 20
    for name, a in arrays.items():
        np.testing.assert_allclose(a, want[name], rtol=1e-6, atol=1e-7, err_msg=name)
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("run", "whole")]
    assert list(logs[0].step) == list(logs[1].step) == [8, 12]
    for column in ("loss", "ess", "val_loss", "val_ess"):
        np.testing.assert_allclose(logs[0][column], logs[1][column], rtol=1e-5)


@pytest.mark.slow
def test_a_run_that_is_killed_in_its_validation_makes_it_when_it_goes_on(tmp_path, monkeypatch):
    args = ["--target=gmm", "--niters=8", "--val_every=4", "--save_every=2",
            f"--workdir={tmp_path}"]
    from train import fit
    monkeypatch.setattr(fit, "report", lambda settings: None)

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Progress, "on_test_begin", killed)
        assert run(*args) == 130
    assert run(*args) == 0
    log = pd.read_csv(tmp_path / "log.csv")
    assert list(log.step) == [4, 8] and log.notna().all().all()


@pytest.mark.exhaustive
def test_two_workers_of_two_replicas_train_the_same(tmp_path, float64):  # noqa: F811
    args = [*SAMPLING, "--target=gmm", "--niters=6", "--val_every=6"]
    only = {"module": "tests.only_train", "env": float64}
    for name, begun in (("one", lambda *a: [start(*a, **only)]),
                        ("four", lambda *a: start_workers(2, *a, "--logical_cpus=2", **only))):
        codes, _, errors = finish(begun(*args, f"--workdir={tmp_path / name}"))
        assert codes == [0] * len(codes), errors
    arrays, want = (checkpoint(tmp_path / name) for name in ("four", "one"))
    for name, a in arrays.items():
        np.testing.assert_allclose(a, want[name], rtol=1e-9, atol=1e-12, err_msg=name)
    logs = [pd.read_csv(tmp_path / name / "log.csv") for name in ("four", "one")]
    for column in ("loss", "ess", "val_loss"):
        np.testing.assert_allclose(logs[0][column], logs[1][column], rtol=1e-5)


@pytest.mark.slow
def test_a_solve_that_does_not_converge_is_told(tmp_path, capsys):
    assert run("--target=gmm", "--sampler=solved", "--max_solver_steps=1",
               f"--workdir={tmp_path}") == 3
    assert "did not converge" in capsys.readouterr().err.splitlines()[-1]


# What is measured -------------------------------------------------------------------------------


def test_scores_of_a_normal_for_a_mixture():
    """Both effective sizes are `1 / E_p[p / q]`, here an integral over one coordinate."""
    settings = parsed("--dimensions=2", "--n_importance=20000", "--val_batchsize=5000")
    model = FlowModel(ActNorm([2], dtype="float64"), eval_log_det=logdet.Exact())
    model.compile("adam", loss=build_loss(settings))
    found = weighing.scores(model, settings, weighing.weighted(model, settings, seed=0))
    x = np.linspace(-12, 12, 4001)
    p = np.exp(targets.GaussianMixture(1).log_prob(x[:, None]).numpy())
    q = np.exp(-x ** 2 / 2) / np.sqrt(2 * np.pi)
    step = x[1] - x[0]
    size = ((p ** 2 / q).sum() * step) ** -2
    assert found["ess"] == pytest.approx(size, abs=0.02)
    assert found["forward_ess"] == pytest.approx(size, abs=0.02)
    assert found["loss"] == pytest.approx(2 * (q * np.log(q / p)).sum() * step, abs=0.02)
    assert found["forward_loss"] == pytest.approx(2 * (p * np.log(p / q)).sum() * step, abs=0.02)
    assert abs(found["log_z_error_in_stderrs"]) < 4 and found["log_z_exact"] == 0


@pytest.mark.parametrize("size, beta", [(2, 1.0), (4, 2.0), (8, 6.0), (3, 0.0)])
def test_plaquettes_have_the_mean_that_z_tells(size, beta):
    """`d log Z / d beta = L^2 <cos theta_P>`; the density adds up to 1."""
    angles = 2 * np.pi * np.arange(2048) / 2048 - np.pi
    density = plaquette_density(angles, size, beta)
    assert density.mean() * 2 * np.pi == pytest.approx(1, abs=1e-12)
    low, high = max(0, beta - 1e-4), beta + 1e-4
    slope = (targets.U1(size, high).log_z - targets.U1(size, low).log_z) / (high - low) / size ** 2
    assert (density * np.cos(angles)).mean() * 2 * np.pi == pytest.approx(
        slope, abs=1e-8 if beta else 1e-4)


@pytest.mark.parametrize("beta", [0.0, 1.0, 5.0])
def test_charges_are_sums_of_independent_plaquettes(beta):
    """On a 2x2 torus: the density of a sum of four, by convolution."""
    count = 2 ** 13
    angles = 2 * np.pi * np.arange(-count // 2, count // 2 + 1) / count
    density = np.exp(beta * (np.cos(angles) - 1))
    density[[0, -1]] /= 2
    four = np.fft.irfft(np.fft.rfft(density, 4 * count + 4) ** 4, 4 * count + 4)[:4 * count + 1]
    middle = 2 * count
    want = four[[middle + q * count for q in (-1, 0, 1)]]
    found = charge_probabilities(2, beta, most=3)
    np.testing.assert_allclose(found[2:5], want / want.sum(), atol=1e-5)
    assert found[[0, 1, 5, 6]].max() < 1e-5


def test_charges_of_exact_samples():
    """Within 4 standard errors, at three charges."""
    target = targets.U1(4, 1.0)
    charges = np.round(target.topological_charge(target.sample(20000, seed=0)))
    want = charge_probabilities(4, 1.0, most=5)[5:8]
    for q, p in enumerate(want):
        assert abs((charges == q).mean() - p) < 4 * np.sqrt(p * (1 - p) / len(charges))


@pytest.mark.slow
def test_hmc_of_a_free_field():
    """Action L^2 / 2 and the two-point function of exact samples, within 4 of its errors."""
    target = targets.Phi4(4, 1.0, 0.0)
    chains = hmc(target, n=100, burn_in=150)
    assert 0.6 < chains.acceptance < 0.97
    for function, want in (
            (target.action, 8.0), (target.two_point, tf.reduce_mean(target.two_point(
                target.sample(400000, seed=0, dtype="float64")), axis=0).numpy())):
        mean, error = chains.mean(function(chains.x).numpy())
        assert np.all(error > 0) and np.all(error < 0.1)
        assert np.all(np.abs(mean - want) < 4 * error)


@pytest.mark.slow
def test_observables_of_a_flow_agree_with_hmc():
    """Of what is exactly p: both have the same means within their errors."""
    settings = parsed("--target=phi4", "--act=sin", "--lattice=3", "--lam=0", "--m2=1")
    target = build_target(settings)
    x = target.sample(4000, seed=0, dtype="float64").numpy()
    from tfresflow.importance import Weighted
    log_q = target.log_prob(x).numpy() - target.log_z
    panels, observables = lattices.of_phi4(target, Weighted(x, log_q * 0, log_q), seed=1)
    assert len(panels) == 3 and observables.keys() == {
        "action", "absolute_magnetisation", "two_point"}
    for values in observables.values():
        (flow, of_flow), (other, of_other) = values["flow"], values["hmc"]
        assert np.all(np.abs(flow - other) < 4.5 * np.hypot(of_flow, of_other))
