"""Flags and configs: read, explained, and refused in one clear line."""

import os
import types

import pytest

from bijectors import InvertibleResidual
from tests.command import ROOT, SMOKE
from tfresflow import autodiff, logdet, solvers
from train import environment, flags
from train.build import _eval_log_det, build_model, build_optimizer
from train.main import main
from train.settings import FIXED, ON_DISK, Settings, written

CONFIGS = sorted(path.name for path in (ROOT / "configs").glob("*.cfg"))


@pytest.mark.parametrize("args, message", [
    (["--nblock=3"], "Unknown command line flag 'nblock'. Did you mean: nblocks"),
    (["--nblocks=4-x"], "--nblocks must be positive whole numbers with dashes between"),
    (["--coeff=1.2"], "--coeff must be in (0, 1). Received: --coeff=1.2"),
    (["--lr=nan"], "--lr must be positive. Received: --lr=nan"),
    (["--act=tahn"], "flag --act=tahn: value should be one of <swish|clipswish"),
    (["--batchsize=many"], "flag --batchsize=many: invalid literal for int()"),
    (["--vnorms=22x"], "--vnorms must be digits, or f for infinity"),
    (["--vnorms=222f"], "--vnorms must be 3 orders for branches of 3 linear layers, or 4 of which "
                        "the last is the first: a branch that ends in another norm"),
    (["--p_range=2"], "--p_range must be two numbers above 1 with a dash between"),
    (["--p_range=2.5-1.5"], "--p_range must be two numbers above 1"),
    (["--data=nothing"], "flag --data=nothing: value should be one of <mnist5k|"),
    (["evaluate"], "the command must be one of train, eval, sample, ood, import, export. "
                   "Received: evaluate. "
                   "Did you mean eval?"),
    (["--flagfile=configs/none.cfg"], "configs/none.cfg'. Paths"),
    (["--seed=99999999999"], "--seed must be less than 2^31"),
    (["--sample_seed=-2"], "--sample_seed must be less than 2^31, and not negative, or -1"),
    (["--data=folder"], "--dataroot must name the file or folder for --data=folder"),
    (["--data=folder", "--dataroot=nowhere"], "--dataroot=nowhere: no such folder"),
    (["--data=csv", "--dataroot=nowhere.csv"], "--dataroot=nowhere.csv: no such file"),
    (["--data=digits", "--nbits=4"], "must have height and width divisible by"),
    (["--data=moons"], "--nblocks must be one number for vectors"),
    (["eval", "--workdir=runs/none"], "--workdir=runs/none holds no run"),
    (["--data=moons", "--workdir=runs/a[1]"], "--workdir must be a path without [...] and backs"),
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
    assert captured.err.count("\n") == 1
    assert all(" ..." in line for line in captured.out.splitlines())  # what is being done
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content, message", [
    ("data: csv\n" + "nblocks: 1\n" * 100, " ..., in a flagfile, each line of which must be --nam"),
    ("\ufeff--data=csv\n", "Received: --data=csv, in a flagfile that begins with a byte order m")])
def test_what_is_no_flagfile(tmp_path, content, message, capsys):
    (tmp_path / "x.cfg").write_text(content, encoding="utf-8")
    assert main(["x", f"--flagfile={tmp_path / 'x.cfg'}"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error) < 300 and error.count("\n") == 1


def test_another_backend_of_keras_is_passed_over(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    environment.prepare()
    assert os.environ["KERAS_BACKEND"] == "tensorflow"
    assert capsys.readouterr().err.startswith("warning: KERAS_BACKEND=jax is passed over")


def test_help(capsys):
    assert main(["x", "--help"]) == 0
    out = capsys.readouterr().out
    assert "  --nblocks=16-16-16\n" in out and "--noexact" not in out
    assert "  --[no]add_noise\n      Dequantise with uniform noise. Default: yes.\n" in out


@pytest.mark.parametrize("config", CONFIGS)
def test_configs_are_read(config):
    text = (ROOT / "configs" / config).read_text()
    files = any(f"--data={name}\n" in text for name in ON_DISK)
    settings = flags.parse(["x", f"--flagfile=configs/{config}", *["--dataroot=x"] * files])
    if config != "common.cfg":
        assert all(f"# {word}:" in text for word in ("command", "hardware", "result"))
    defaults = flags.parse(["x"])
    assert config == "common.cfg" or settings != defaults


@pytest.mark.slow
def test_demo_builds_as_it_says():
    model = build_model(flags.parse(["x", "--flagfile=configs/mnist5k.cfg"]))
    assert model.nbits == 8 and model.flow.event_shape == (28, 28, 1)
    assert len(model.flow.lipschitz_layers()) == 4 + 4 + 4 + 4


def test_variational_noise_is_the_models():
    """With the options of the other blocks."""
    args = ["x", SMOKE, "--nblocks=1", "--dequantise=variational", "--dequantise_blocks=1"]
    model = build_model(flags.parse([*args, "--dequantise_idim=3", "--coeff=0.9"]))
    pixels, noise = model.flow.bijectors
    assert (noise.nbits, model.nbits, model.scale_bits) == (4, None, 0)
    [branch] = noise.lipschitz_layers().values()
    assert [layer.coeff for layer in branch] == [0.9] * 3 and branch[0].kernel.shape[-1] == 3
    assert len(model.flow.branches()) == 1 + len(pixels.branches())


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "rmsprop", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimizers(name, decay):
    made = build_optimizer(flags.parse(["x", SMOKE, f"--optimizer={name}", f"--wd={decay}"]))
    assert (made.weight_decay or 0.0) == decay and made.global_clipnorm == 1.0 and made.use_ema


@pytest.mark.parametrize("args, log_det, way", [
    ([], logdet.LogDet(logdet.Adaptive(0.05), probe=logdet.orthogonal), autodiff.Recomputed()),
    (["--n_power_series=6", "--noneumann_grad", "--autodiff=released"],
     logdet.LogDet(logdet.Truncated(6), logdet.Series()), autodiff.Released()),
    (["--n_dist=geometric", "--geom_p=0.3", "--n_samples=2", "--n_exact_terms=1", "--nomem_eff"],
     logdet.LogDet(logdet.Geometric(0.3, 1, 2)), autodiff.Stored()),
    (["--probe=normal", "--n_probes=3", "--n_dist=poisson", "--autodiff=recomputed"],
     logdet.LogDet(logdet.Poisson(2.0, 2), probe=logdet.normal, num_probes=3),
     autodiff.Recomputed())])
def test_flags_of_the_estimate(args, log_det, way):
    args = ["x", "--data=8gaussians", "--nblocks=1", "--dims=8", *args]
    model = build_model(flags.parse([*args, "--solver=broyden", "--max_solver_steps=70"]))
    assert model.autodiff == way
    for flow, want in ((model.flow, log_det), (model.eval_flow, logdet.Exact())):
        blocks = [b for b in flow.bijectors if isinstance(b, InvertibleResidual)]
        assert len(blocks) == 1 and blocks[0].log_det == want
        assert isinstance(blocks[0].solver, solvers.Broyden) and blocks[0].solver.max_steps == 70


@pytest.mark.parametrize("block, kinds", [
    ("resblock", ["InvertibleResidual"] * 2), ("monotone", ["Monotone"] * 2),
    ("implicit", ["InvertibleResidual", "Inverted"])])
def test_kinds_of_blocks(block, kinds):
    """Trained and evaluated ones, with the solver and the activation of the flags."""
    model = build_model(flags.parse(["x", "--data=8gaussians", "--nblocks=2", "--dims=8",
                                     f"--block={block}", "--solver=newton", "--act=cpila"]))
    for flow in (model.flow, model.eval_flow):
        blocks = [b for b in reversed(flow.bijectors) if b.branches()]
        assert [type(b).__name__ for b in blocks] == kinds
        for b in blocks:
            [branch] = b.branches().values()
            assert type(branch.layers[1]).__name__ == "CPila"
            assert isinstance(getattr(b, "flow", b).solver, solvers.Newton)


@pytest.mark.parametrize("args, size, want", [
    ([], 65, logdet.LogDet(logdet.Bracket(0.0001))),
    ([], 64, logdet.Exact()), (["--exact"], 65, logdet.Exact()),
    (["--tolerance=0"], 65, logdet.LogDet(logdet.Adaptive(0.05))),
    (["--tolerance=0", "--n_dist=poisson", "--probe=normal", "--n_samples=2"], 65,
     logdet.LogDet(logdet.Poisson(2.0, 20), probe=logdet.normal)),
    (["--tolerance=0", "--n_dist=geometric", "--geom_p=0.3", "--n_power_series=6"], 65,
     logdet.LogDet(logdet.Geometric(0.3, 20)))])  # what is reported stays unbiased
def test_flags_of_evaluation(args, size, want):
    source = types.SimpleNamespace(kind="table", event_shape=(size,))
    assert _eval_log_det(flags.parse(["x", *args]), source, 5) == want


@pytest.mark.parametrize("args, rates", [
    (["--warmup_iters=0"], {0: 1, 99: 1}), (["--warmup_iters=10"], {0: 0.1, 5: 0.55, 10: 1, 99: 1}),
    (["--warmup_iters=0", "--lr_decay"], {0: 1, 50: 0.5, 100: 0}),
    (["--warmup_iters=20", "--lr_decay"], {10: 0.5, 20: 1, 60: 0.5, 100: 0})])
def test_learning_rate(args, rates):
    """A straight warm-up, then constant, or a cosine down to zero at the last step."""
    made = build_optimizer(flags.parse(["x", SMOKE, "--lr=0.008", "--niters=100", *args]))
    for step, rate in rates.items():
        made.iterations.assign(step)
        assert float(made.learning_rate) == pytest.approx(0.008 * rate, abs=1e-8), step


@pytest.mark.fast("args0-orders0", "args2-orders2")
@pytest.mark.parametrize("args, orders", [
    (["--vnorms=222f", "--kernels=3-1-1-3"], [2, 2, 2, float("inf"), 2]),
    (["--vnorms=21f2"], [2, 1, float("inf"), 2]), (["--vnorms=2222"], [2, 2, 2, 2]),
    (["--learn_p"], [None] * 4), (["--learn_p", "--nomixed"], [None] * 4)])
def test_orders_of_a_branch(args, orders):
    flow = build_model(flags.parse(["x", SMOKE, "--fc_end=false", "--nblocks=1", *args])).flow
    [branch] = flow.lipschitz_layers().values()
    assert [branch[0].domain_order.fixed] + [x.codomain_order.fixed for x in branch] == orders
    learned = [w for layer in flow.layers for w in layer.trainable_weights
               if w.name == "raw_codomain"]
    assert len(learned) == {"--learn_p": 3, "--nomixed": 1}.get(args[-1], 0)


def told(capsys):
    """The flags of which it is said that they do nothing."""
    lines = capsys.readouterr().err.splitlines()
    assert all(" has no effect with" in line for line in lines)
    return sorted(line.split()[1].lstrip("-") for line in lines)


@pytest.mark.parametrize("args, said", [
    (["--data=moons", "--idim=3", "--nofc_end", "--preact"], ["fc_end", "idim", "preact"]),
    (["--data=moons", "--n_power_series=5", "--n_samples=2"], ["n_samples"]),
    (["--n_power_series=5", "--n_dist=geometric", "--tolerance=0"], []),  # of the evaluation
    (["--n_power_series=5", "--n_dist=geometric"], ["n_dist"]),
    (["--exact", "--eval_probes=3", "--tolerance=0.1"], ["eval_probes", "tolerance"]),
    (["--data=moons", "--exact", "--tolerance=0.1"], ["exact", "tolerance"]),
    (["--n_dist=poisson", "--n_exact_terms_eval=9"], ["n_exact_terms_eval"]),
    (["--n_exact_terms=9", "--n_lambda=3"], ["n_exact_terms", "n_lambda"]),
    (["--data=csv", "--dataroot=x", "--n_test=5", "--geom_p=0.3", "--p_range=1.5-3"],
     ["geom_p", "n_test", "p_range"]),
    (["--flagfile=configs/mnist5k.cfg", "--ema_decay=0.9"], []),
    (["--flagfile=configs/mnist5k.cfg", "--val_fraction=0.2", "--resize_mode=crop"],
     ["resize_mode", "val_fraction"]),
    (["--data=folder", "--dataroot=x", "--resize_mode=crop", "--nofc_end", "--fc_idim=3"],
     ["fc_idim", "resize_mode"]),
    (["--data=folder", "--dataroot=x", "--resize_mode=crop", "--imagesize=8"], []),
    (["--learn_p", "--vnorms=2222", "--densenet", "--idim=3"], ["idim", "vnorms"]),
    (["--niters=9", "--nepochs=3", "--strategy=one", "--logical_cpus=2"],
     ["logical_cpus", "nepochs"]),
    (["--block=monotone", "--autodiff=stored"], ["autodiff"]),
    (["--block=implicit", "--autodiff=stored", "--rtol=1e-5"], []),
    (["--dequantise_blocks=1", "--dequantise_idim=8", "--eval_draws=2"],
     ["dequantise_blocks", "dequantise_idim", "eval_draws"]),
    (["--dequantise=variational", "--dequantise_idim=8", "--eval_draws=2", "--noadd_noise"],
     ["add_noise"]),
    (["--data=moons", "--dequantise=variational"], ["dequantise"]),
    (["--data=moons", "--n_dist=geometric", "--geom_p=0.3", "--dims=8"], [])])
def test_flags_that_do_nothing_are_told(args, said, capsys):
    flags.parse(["x", *args])
    assert told(capsys) == said


TYPED = {name: f"--{name}={value}" for name, value in written(Settings(data_out="x")).items()
         if name not in ("command", "workdir", "dataroot", *FIXED)}


@pytest.mark.parametrize("command, data, used", [
    ("eval", "digits", "val_batchsize checkpoint tolerance eval_probes exact"),
    ("eval", "moons", "val_batchsize checkpoint n_test"),
    ("sample", "digits", "val_batchsize checkpoint n_sample_images temperature sample_seed"),
    ("sample", "moons", "val_batchsize checkpoint temperature n_test sample_seed"),
    ("ood", "digits", "val_batchsize checkpoint tolerance eval_probes exact data_out"),
    ("ood", "moons", "val_batchsize checkpoint n_test data_out")])
def test_each_flag_that_a_command_does_not_look_at_is_told(command, data, used, tmp_path, capsys):
    """Those that a run has for good are compared with its own."""
    flags.save(Settings(data=data), tmp_path, "")
    for name, typed in TYPED.items():
        other = ["--data_out=x"] if command == "ood" else []
        flags.parse(["x", command, f"--workdir={tmp_path}", *other, typed])
        works = name in [*used.split(), "solver", "rtol", "atol", "max_solver_steps"]
        assert told(capsys) == ([] if works else [name])


@pytest.mark.parametrize("args, message", [
    (["--data=moons", "--dataroot=x.csv"], "--dataroot must come with --data=folder, array, csv, "),
    (["--nomem_eff", "--autodiff=recomputed"], "--autodiff must be stored, or not given")])
def test_flags_that_contradict_each_other_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        flags.parse(["x", *args])
