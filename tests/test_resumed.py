"""Flags that may change when a run goes on: its state is taken over, and the new value counts."""

import dataclasses

import numpy as np
import pytest

from tests.command import SMOKE
from train import build, checkpoints, flags
from train.settings import FIXED, Settings

RUN = ["x", "--data=8gaussians", "--nblocks=1", "--dims=4", "--niters=50"]
RATES = {"constant": ["--warmup_iters=0"], "rising": ["--warmup_iters=20"],
         "falling": ["--warmup_iters=0", "--lr_decay"],
         "both": ["--warmup_iters=20", "--lr_decay"]}
STEP = 7
# What of the flags is in a model or its optimizer; training and evaluation look at the others.
SEEN = {"lr", "lr_decay", "warmup_iters", "beta_2", "wd", "clip", "ema_decay", "skip_nonfinite",
        "autodiff", "solver", "rtol", "atol", "max_solver_steps"}


def other(field):
    """A value that a field may have, too."""
    value, allowed = field.default, field.metadata["allowed"]
    if allowed:
        return next(v for v in allowed[::-1] if v not in ("", value))
    return {bool: lambda: not value, int: lambda: value + 1, float: lambda: 0.25,
            str: lambda: "last"}[type(value)]()  # of text there is --checkpoint


OTHERS = {f.name: other(f) for f in dataclasses.fields(Settings) if f.name not in (
    *FIXED, "command", "workdir", "dataroot", "data_out", "mem_eff")}  # mem_eff: by autodiff


def compiled(args):
    settings = flags.parse(args)
    model = build.build_model(settings)
    model.compile(build.build_optimizer(settings))
    return model, settings


def save(args):
    """A checkpoint of `STEP`; returns the model."""
    model, settings = compiled(args)
    _, managers, _ = checkpoints.restore(model, settings, "last")
    for i, variable in enumerate(model.optimizer.variables):
        if variable.name != "learning_rate":
            variable.assign(np.full(variable.shape, 1 + i))
    model.optimizer.iterations.assign(STEP)
    managers["last"].save(STEP)
    return model


def go_on(args):
    """The model that goes on from there, and what the flags made of it before."""
    model, settings = compiled(args)
    new = made(model)
    assert checkpoints.restore(model, settings, "last")[2].endswith(f"ckpt-{STEP}")
    return model, new


def made(model):
    """What flags make of a model, and is no state of it."""
    blocks = [(b.solver, b.log_det) for flow in (model.flow, model.eval_flow)
              for b in flow.bijectors if hasattr(b, "solver")]
    assert len(blocks) == 2 * len(model.flow.branches()) > 0
    return {**model.optimizer.get_config(), "name": None}, model.skip_nonfinite, model.autodiff, (
        blocks)


def assert_same_state(model, before):
    one, other = ([v.numpy() for v in (*m.weights, *m.optimizer.variables)
                   if v.name != "learning_rate"] for m in (model, before))
    for now, then in zip(one, other, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.fixture(scope="module")
def constant(tmp_path_factory):
    """Flags of a run whose rate is constant, and its model."""
    args = [*RUN, *RATES["constant"], f"--workdir={tmp_path_factory.mktemp('run')}"]
    return args, save(args)


@pytest.mark.fast("lr", "warmup_iters", "lr_decay", "wd", "clip", "beta_2", "ema_decay",
                  "skip_nonfinite", "autodiff", "solver", "niters", "val_every")
@pytest.mark.parametrize("name", OTHERS)
def test_a_flag_that_changes_counts_from_now_on(name, constant):
    args, before = constant
    model, new = go_on([*args, f"--{name}={OTHERS[name]}"])
    assert_same_state(model, before)
    assert made(model) == new
    assert (new != made(before)) == (name in SEEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "tolerance"])
def test_what_evaluation_is_asked_for_counts_from_now_on(name, tmp_path):
    """Of images, whose log-determinants are not exact anyway, as those of short rows are."""
    args = ["x", SMOKE, "--nblocks=1", f"--workdir={tmp_path}"]
    before = save(args)
    model, new = go_on([*args, f"--{name}={OTHERS[name]}"])
    assert_same_state(model, before)
    assert made(model) == new != made(before)


@pytest.mark.fast("constant")
@pytest.mark.parametrize("course", RATES)
def test_any_course_of_the_rate_may_follow_any_other(course, tmp_path):
    args = [*RUN, f"--workdir={tmp_path}", "--lr=0.01"]
    before = save([*args, *RATES[course]])
    for after in RATES.values():
        model, new = go_on([*args, *after, "--lr=0.02"])
        assert_same_state(model, before)
        assert made(model) == new


@pytest.mark.fast("adam")
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_checkpoint_that_holds_its_rate_is_read(optimizer, tmp_path, monkeypatch):
    """Version 0.1 wrote them where that was constant."""
    args = [*RUN, f"--workdir={tmp_path}", f"--optimizer={optimizer}"]
    with monkeypatch.context() as patch:
        patch.setattr(build, "_learning_rate", lambda settings: settings.lr)
        before = save([*args, "--lr=0.01"])
    assert [v.name for v in before.optimizer.variables][1] == "learning_rate"
    for after in RATES.values():
        model, new = go_on([*args, *after, "--lr=0.02"])
        assert_same_state(model, before)
        assert made(model) == new


def test_batches_stay_as_large_as_they_are(constant):
    """Their places in the stream of examples follow from the step."""
    args, _ = constant
    settings = flags.parse(args)
    flags.save(settings, settings.workdir, "")
    for changed in ("--batchsize=32", "--update_freq=2"):
        with pytest.raises(ValueError, match=changed.strip("-").split("=")[0] + r" \(there"):
            flags.conflicts(flags.parse([*args, changed]), settings.workdir)
