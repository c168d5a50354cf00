"""The reproductions, with next to no training: that each makes its picture, table and verdict."""

import math

import numpy as np
import pandas as pd
import pytest

from tests.command import finish, start
from train.data import toy
from train.reproduce import fig1, moonwalk, table2
from train.reproduce.__main__ import NAMES, main
from train.reproduce.kept import kept
from train.settings import TOYS

COUNTING = {"TF_ENABLE_ONEDNN_OPTS": "1"}  # peak memory is told by the allocator of oneDNN


def seldom(*case):
    """Before a release: the code of these is that of others, or changes less often."""
    return pytest.param(*case, marks=pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize("name, columns", [
    seldom("memory", {"method", "terms", "blocks", "peak_mb"}),
    seldom("toy", {"density", "entropy", "nll", "realnvp_nll", "weights", "realnvp_weights"}),
    seldom("hopfield", {"method", "step", "loss", "residual", "gradient"}),
    ("hypergrad", {"method", "meta_step", "loss", "seconds", "peak_mb", "memory_ratio"}),
    ("citation", {"method", "epoch", "loss", "val_accuracy", "test_accuracy", "residual"}),
    seldom("moonwalk", {"method", "layers", "peak_mb", "seconds", "extrapolated", "error",
                        "directions"}),
    ("strategies", {"strategy", "blocks", "peak_mb", "time_ratio", "error", "evaluations"}),
    ("paths", {"sampler", "to_standard", "to_drop_in", "variance", "test_loss", "ess", "log_z"})])
def test_quick_reproductions(name, columns, tmp_path):
    folder = tmp_path / name

    def reproduce():
        [code], [out], [error] = finish([start(name, "--quick", f"--folder={folder}",
                                               module="train.reproduce", env=COUNTING)])
        assert code == 0, error
        return out

    out = reproduce()
    table = pd.read_csv(folder / f"{name}.csv")
    assert columns <= set(table.columns) and len(table)
    assert (folder / f"{name}.png").stat().st_size > 10_000
    assert (folder / f"{name}.txt").read_text().strip() in out
    if name == "toy":  # as many weights as the flow, to 5 per cent
        np.testing.assert_allclose(table.realnvp_weights, table.weights, rtol=0.05)
    if name == "strategies":
        counted = table[table.measure == "evaluations"]
        assert len(counted) == 4 and (counted.evaluations == counted.expected).all()
    if name == "hypergrad":  # what was measured is not measured again
        before = (folder / f"{name}.csv").read_bytes()
        assert reproduce() == out and (folder / f"{name}.csv").read_bytes() == before


def _fail_on_three(x, path):
    with open(path, "a") as file:
        file.write(f"{x} ")
    if x == 3 and not path.with_suffix(".mended").exists():
        raise RuntimeError("stopped")
    return {"square": np.arange(x) ** 2}


def test_what_was_computed_stays(tmp_path):
    """A loop that is stopped in its third call goes on with that."""
    path, function = tmp_path / "calls", kept(tmp_path, _fail_on_three)
    with pytest.raises(RuntimeError, match="stopped"):
        [function(x, path) for x in range(1, 6)]
    path.with_suffix(".mended").touch()
    results = [function(x, path) for x in range(1, 6)]
    assert path.read_text().split() == ["1", "2", "3", "3", "4", "5"]
    assert [list(r["square"]) for r in results] == [[i * i for i in range(x)] for x in range(1, 6)]


def test_names_and_errors(capsys, tmp_path, monkeypatch):
    with pytest.raises(SystemExit) as ended:
        main(["fig9"])
    assert ended.value.code == 2 and "fig9" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in NAMES)
    monkeypatch.setattr(fig1, "_FLAGS", ("--nblocks=x",))
    assert main(["fig1", "--quick", f"--folder={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "ended with code 2: error: --nblocks must be positive whole numbers" in error


def test_verdicts_follow_the_numbers():
    rows = [{"coeff": 0.99, "estimator": e, "exact_nll": mean + d, "stderr_data": 0.001}
            for e, mean in (("biased, 5 terms", 4.0), ("unbiased", 3.6)) for d in (-0.01, 0, 0.01)]
    table = pd.DataFrame(rows)
    assert fig1._verdict(table).startswith("confirmed: at coeff 0.99 the exact NLL is 4.0000 b")
    table["exact_nll"] = 4.0 + np.resize([-0.1, 0.0, 0.1], 6)
    assert fig1._verdict(table).startswith("not confirmed")
    results = {("mnist5k", "biased, ELU"): (1.5, 0.01), ("mnist5k", "unbiased, ELU"): (1.4, 0.01),
               ("mnist5k", "unbiased, LipSwish"): (1.3, 0.01)}
    assert "mnist5k confirmed: unbiased gains +0.1000" in table2._verdict("mnist5k", results)
    results["mnist5k", "unbiased, ELU"] = (1.2, 0.01)
    assert table2._verdict("mnist5k", results).startswith("mnist5k not confirmed")


def test_verdict_of_moonwalk():
    """That a claim is on the side where the numbers put it."""
    def errors(of_mixed):
        return pd.DataFrame([
            {"slope": slope, "seed": 0, "method": method, "step": 0, "error": error}
            for slope in (0.0, 2.0) for method, error in (
                ("Backprop", 1e-6), ("Mixed", of_mixed if slope else 1e-6),
                ("RevBackprop", np.nan if slope else 1e-6))])

    assert list(moonwalk._of_errors(errors(1e-3)).values()) == [True, True]
    assert list(moonwalk._of_errors(errors(0.7)).values()) == [True, False]
    seconds = pd.DataFrame([{"layers": 2, "method": method, "seconds": own} for method, own in (
        ("Backprop", 1.0), ("Mixed", 3.0), ("Moonwalk", 10.0), ("Forward", 200.0))])
    assert list(moonwalk._of_time(seconds).values()) == [True, False]


@pytest.mark.fast("swissroll", "checkerboard")
@pytest.mark.parametrize("name", TOYS)
def test_entropies(name):
    """By a histogram of four million samples, two widths of cells extrapolated to none."""
    x = np.concatenate([toy.TOYS[name](1_000_000, [i, 3]).numpy() for i in range(4)])
    coarse, fine = (_entropy_of_histogram(x, width) for width in (0.08, 0.04))
    np.testing.assert_allclose(fine - (coarse - fine) / 3, toy.ENTROPIES[name], atol=0.006)


def _entropy_of_histogram(x, width):
    cells = np.floor(x / width).astype(np.int64)
    counts = np.unique(cells[:, 0] * 100_003 + cells[:, 1], return_counts=True)[1]
    p = counts / len(x)
    # The last term: what an entropy of counts is too low on average (Miller and Madow).
    return -np.sum(p * np.log(p)) + 2 * math.log(width) + (len(counts) - 1) / (2 * len(x))
