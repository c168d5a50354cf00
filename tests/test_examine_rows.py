"""Rows of which a density, or its score, would mean little: said alike of tables and arrays."""

import re

import numpy as np
import pandas as pd
import pytest

from tests.test_data import settings
from train import data, flags
from train.data.examine_rows import warn_of_repeats
from train.data.scaler import label

N = 400
RNG = np.random.RandomState(0)
ROWS = RNG.randn(N, 2)
RARE = np.where(np.arange(N) % 3, 1.5, RNG.randn(N))


def said(path, rows, capsys):
    """What is said of rows in a file of this kind, without its name."""
    if path.suffix == ".csv":
        pd.DataFrame(rows).add_prefix("x").to_csv(path, index=False)
    else:
        np.save(path, rows)
    kind = "csv" if path.suffix == ".csv" else "array"
    data.describe(settings(f"--data={kind}", f"--dataroot={path}"))
    return capsys.readouterr().err.replace(f"warning: {path}: ", "")


def column(kind, place):
    return f"column 'x{place}'" if kind == "x.csv" else label(f"column {place + 1}")


@pytest.mark.parametrize("kind", ["x.csv", "x.npy"])
class TestBoth:
    @pytest.mark.parametrize("values, step", [
        (RNG.randint(18, 90, N), 1), (RNG.randint(-9, 9, N) * 0.5, 0.5),
        (7.3 + 0.1 * RNG.randint(0, 40, N), 0.1), (RNG.randint(0, 2, N), 1),
        (RNG.randint(5, 40, N) * 1000, 1000), (RNG.geometric(0.3, N) ** 2, 1),
        (np.r_[RNG.randint(0, 9, N - 1), 10 ** 6], 1), (ROWS[:, 0].round(1), 0.1)])
    def test_numbers_that_are_counted_or_rounded(self, kind, values, step, tmp_path, capsys):
        rows = np.c_[ROWS[:, 0], values, ROWS[:, 1]]
        assert said(tmp_path / kind, rows, capsys).startswith(
            f"{column(kind, 1)} goes in steps of {step:g}: of numbers that are counted or rounded "
            "there is no density")

    @pytest.mark.parametrize("rows", [
        ROWS, ROWS.round(2), 1e4 * ROWS.round(3), np.exp(2 * ROWS), RNG.randint(0, 9999, (N, 2)),
        RNG.rand(30, 2), RNG.standard_cauchy((N, 2)), np.float32(ROWS), np.cumsum(ROWS, 0)])
    def test_numbers_with_a_density(self, kind, rows, tmp_path, capsys):
        assert not said(tmp_path / kind, rows, capsys)

    def test_several_columns_are_one_line(self, kind, tmp_path, capsys):
        whole = RNG.randint(0, 99, (N, 9))
        line = said(tmp_path / kind, np.c_[whole, ROWS], capsys)
        assert line.count(" goes in steps of 1") == 8 and line.count("\n") == 1

    def test_single_values(self, kind, tmp_path, capsys):
        line = said(tmp_path / kind, np.c_[ROWS, RARE], capsys)
        assert line.startswith(f"of 320 rows, {column(kind, 2)} is 1.5 in ") and (
            line.count("\n") == 1)

    def test_columns_that_depend_on_each_other(self, kind, tmp_path, capsys):
        line = said(tmp_path / kind, np.c_[ROWS, ROWS @ [2, -3]], capsys)
        names = ", ".join(column(kind, i) for i in range(3))
        assert line.startswith(f"{names} depend linearly on each other")

    def test_rows_of_the_test_that_are_trained_on(self, kind, tmp_path, capsys):
        one, two = said(tmp_path / kind, np.tile(ROWS, (3, 1)), capsys).splitlines()
        for line, split in ((one, "test"), (two, "validation")):
            count, of = re.match(r"(\d+) of (\d+) examples of the (\w+) part", line).groups()[:2]
            assert of == "120" and 100 < int(count) <= 120 and f"of the {split} part" in line


def test_whole_numbers_of_any_type_are_vectors(tmp_path, capsys):
    for dtype in (np.int8, np.int64, np.uint16, np.float32):
        line = said(tmp_path / "x.npy", RNG.randint(0, 99, (N, 2)).astype(dtype), capsys)
        assert line.startswith("the 1st column goes in steps of 1, the 2nd column goes in")


def test_images_of_the_test_that_are_trained_on(tmp_path, capsys):
    images = RNG.randint(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    assert not said(tmp_path / "x.npy", images, capsys)
    np.savez(tmp_path / "x.npz", train=images[:20], val=images[18:30], test=images[30:])
    data.describe(settings("--data=array", f"--dataroot={tmp_path / 'x.npz'}"))
    assert "2 of 12 examples of the validation part stand in" in capsys.readouterr().err


def test_a_table_that_is_evaluated_is_looked_at_too(tmp_path, capsys):
    """Its score is what repeated rows spoil; its columns were looked at in training."""
    pd.DataFrame(np.tile(ROWS, (2, 1)).round(1)).add_prefix("x").to_csv(
        tmp_path / "x.csv", index=False)
    given = ["--data=csv", f"--dataroot={tmp_path / 'x.csv'}", f"--workdir={tmp_path}"]
    trained = settings(*given)
    data.save_trained(data.describe(trained), tmp_path)
    assert "steps of 0.1" in capsys.readouterr().err
    flags.save(trained, tmp_path, "")
    data.describe(settings("eval", *given))
    line = capsys.readouterr().err
    assert "stand in the training part, too" in line and "steps" not in line


def test_zeros_of_either_sign_are_the_same(capsys):
    warn_of_repeats("x", {"train": np.zeros((1, 2)), "validation": np.ones((1, 2)),
                          "test": -np.zeros((3, 2))})
    assert capsys.readouterr().err.startswith("warning: x: 3 of 3 examples of the test part")


def test_names_of_columns():
    names = [label(f"column {i}") for i in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert [name.split()[1] for name in names] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    assert label("a, b") == "column 'a, b'"
