"""`--task=sampling`: training without data, what evaluation and samples write, resuming."""

import json

import numpy as np
import pandas as pd
import pytest

from train.main import main

TINY = ["x", "--task=sampling", "--target=many_well", "--dimensions=2", "--nblocks=1", "--dims=8",
        "--val_every=5", "--batchsize=32", "--n_importance=300", "--warmup_iters=1"]


@pytest.mark.slow
def test_a_run_evaluates_samples_and_goes_on(tmp_path):
    """In two pieces the same weights as in one; log Z with an error; weighted samples in a file."""
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert main([*TINY, "--niters=10", f"--workdir={whole}"]) == 0
    for steps in (5, 10):
        assert main([*TINY, f"--niters={steps}", f"--workdir={pieces}"]) == 0
    logs = [pd.read_csv(run / "log.csv") for run in (whole, pieces)]
    assert list(logs[0].step) == [5, 10]
    for column in ("loss", "val_loss", "val_ess"):
        np.testing.assert_allclose(logs[0][column], logs[1][column], rtol=1e-5)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["log_z_stderr"] > 0 and 0 < metrics["ess"] <= 1
    assert 0 <= metrics["acceptance"] <= 1
    drawn = np.load(whole / "samples.npz")
    assert drawn["x"].shape[1:] == (2,) and len(drawn["x"]) == len(drawn["log_weights"])
    for name in ("samples.png", "curve.png"):
        assert (whole / name).stat().st_size > 5000


@pytest.mark.parametrize("flags, said", [
    (["--target=phi4", "--act=sin", "--kl=forward"], "--kl must be reverse for --target=phi4"),
    (["--target=many_well", "--dimensions=3"], "--dimensions must be even for --target=many_well"),
    (["--target=u1", "--block=coupling"], "--block must not be coupling for --target=u1"),
    (["--target=phi4", "--act=swish"], "--act must be sin or tanh for --target=phi4")])
def test_flags_that_do_not_fit_are_refused(flags, said, tmp_path, capsys):
    assert main(["x", "--task=sampling", *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
