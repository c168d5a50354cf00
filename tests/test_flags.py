"""Flags and configs: read, explained, and refused in one clear line."""

import pytest

from tests.command import ROOT, SMOKE
from train import flags
from train.build import build_model, build_optimizer
from train.main import main

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


def test_demo_builds_as_it_says():
    model = build_model(flags.parse(["x", "--flagfile=configs/mnist5k.cfg"]))
    assert model.nbits == 8 and model.flow.event_shape == (28, 28, 1)
    assert len(model.flow.lipschitz_layers()) == 4 + 4 + 4 + 4


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "rmsprop", "sgd"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_optimizers(name, decay):
    made = build_optimizer(flags.parse(["x", SMOKE, f"--optimizer={name}", f"--wd={decay}"]))
    assert (made.weight_decay or 0.0) == decay and made.global_clipnorm == 1.0 and made.use_ema


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
