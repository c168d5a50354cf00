"""What the columns of a table become for `FlowDensity`, and which tables it refuses."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from bijectors.density import FlowDensity
from bijectors.density.columns import fitted
from bijectors.density.kinds import Categorical, Continuous, Counted
from bijectors.density.noise import keys_of, uniform
from tests.tables import ROWS, TINY, mixed


@pytest.mark.parametrize("kind, values", [
    (Continuous(3.0, 2.5), np.array([-1.0, 7.0])), (Counted(3.5, 2.5), np.array([0.0, 12.0])),
    (Categorical((0.7, 0.1, 0.2)), np.array([0.0, 1.0, 2.0]))])
def test_slopes_are_derivatives_and_values_come_back(kind, values):
    noise, step = np.array([0.3, 0.8, 0.5])[:len(values)], 1e-6
    moved = [kind.forward(values + (0 if kind.is_noisy else sign * step), noise + sign * step)[0]
             for sign in (1, -1)]
    z, log_slope = kind.forward(values, noise)
    np.testing.assert_allclose(np.exp(log_slope), (moved[0] - moved[1]) / (2 * step), rtol=1e-6)
    np.testing.assert_allclose(kind.inverse(z), values, atol=1e-12)


def test_categories_become_normal():
    shares = (0.5, 0.2, 0.3)
    random = np.random.RandomState(0)
    codes = random.choice(3, size=20000, p=shares).astype(float)
    z, _ = Categorical(shares).forward(codes, random.uniform(size=20000))
    assert scipy.stats.kstest(z, "norm").pvalue > 0.01
    z, _ = Categorical(shares).forward(np.array([0.0, 2.0]), np.array([0.0, 1 - 1e-16]))
    assert np.isfinite(z).all()


def test_noise_is_uniform_and_a_function_of_the_row():
    rows = np.random.RandomState(0).randn(5000, 2)
    keys = keys_of(rows, 7)
    draws = np.stack([uniform(keys, k, 3) for k in range(4)])
    assert draws.min() >= 0 and draws.max() < 1
    assert scipy.stats.kstest(draws.ravel(), "uniform").pvalue > 0.01
    apart = np.corrcoef(np.concatenate(draws, axis=1).T)[np.triu_indices(12, 1)]
    assert np.abs(apart).max() < 4.5 / np.sqrt(5000)
    np.testing.assert_array_equal(keys_of(rows[3:4], 7), keys[3:4])
    np.testing.assert_array_equal(keys_of(-0.0 * rows, 7), keys_of(0.0 * rows, 7))
    assert len({*keys, *keys_of(rows, 8), *keys_of(rows[:, ::-1].copy(), 7)}) == 15000


def changed(**columns):
    return mixed(40).assign(**columns)


@pytest.fixture(scope="module")
def of_mixed():
    return FlowDensity(**TINY).fit(mixed())


@pytest.mark.parametrize("table, message", [
    (changed(x=[np.nan] + [0.5] * 39),
     r"`X` must have no missing values, unless missing=\"median\". Received: NaN in row 0, colu"),
    (changed(x=[0.5, np.inf] * 20), r"`X` must be finite. Received: inf in row 1, column 'x'"),
    (changed(x=0.1), r"no constant column, which has no density: leave out column 'x'"),
    (changed(day=pd.date_range("2020-01-01", periods=40)), r"Received: datetime64 in column 'day'"),
    (changed(day=["a", 1] * 20), r"Received: mixed-integer in column 'day'"),
    (changed(colour=["red", None] * 20), r"Received: NaN in row 1, column 'colour'"),
    (changed(z=[1j] * 40), r"Received: complex in column 'z'"),
    (mixed(1), r"`X` must have at least 2 rows")])
def test_what_is_no_table_to_fit(table, message):
    with pytest.raises(ValueError, match=message):
        FlowDensity(**TINY).fit(table)


@pytest.mark.parametrize("table, message", [
    (changed(colour="green"),
     r"that were there in fit. Received: 'green' in row 0, column 'colour'"),
    (changed(n=[1, 2.5] * 20), r"whole numbers in a column of integers. .* 2.5 in row 1, .* 'n'"),
    (changed(x="many"), "numbers in column 'x', as in fit. Received: dtype=(object|str)"),
    (changed(n=[None, 1] * 20), r"no missing values, .* NaN in row 0, column 'n'"),
    (mixed(40).rename(columns={"x": "y"}), r"(?s)feature names should match.*- y\n.*- x"),
    (mixed(40)[["n", "x", "colour", "old"]], r"must be in the same order as they were in fit"),
    (mixed(40).drop(columns="n"), r"(?s)feature names should match.*missing.*- n")])
def test_another_table_is_refused_by_name(of_mixed, table, message):
    with pytest.raises(ValueError, match=message):
        of_mixed.score_samples(table)


def test_types_of_columns():
    """Nullable ones, numbers kept as objects, an order of categories, whole numbers in floats."""
    frame = mixed(40)
    other = frame.assign(
        x=frame["x"].astype(object), n=frame["n"].astype("Int64"),
        old=frame["old"].astype("boolean"), colour=pd.Categorical(
            frame["colour"], ["red", "green", "blue"], ordered=True))
    floats = frame.assign(n=frame["n"].astype(float))
    found = [fitted(table, np.ones(40), integers, "error")[0]
             for table, integers in ((frame, "dtype"), (other, "dtype"), (floats, "values"),
                                     (floats, "dtype"))]
    kinds = [[type(kind).__name__ for kind in columns.kinds] for columns in found]
    usual = ["Continuous", "Counted", "Categorical", "Categorical"]
    assert kinds == [usual, usual, usual, ["Continuous", "Continuous", *usual[2:]]]
    assert list(found[1].categories[2]) == ["red", "blue"]  # in their order, those there are


def test_in_a_column_of_floats_that_were_whole_others_are_rounded():
    frame = mixed(40).assign(n=lambda frame: frame["n"].astype(float))
    columns, _ = fitted(frame, np.ones(40), "values", "error")
    np.testing.assert_array_equal(columns.cells(frame.assign(n=frame["n"] + 0.3)),
                                  columns.cells(frame))


def test_numbers_as_names_of_columns_are_looked_at_too():
    columns, _ = fitted(pd.DataFrame(ROWS[:20]), np.ones(20), "values", "error")
    with pytest.raises(ValueError, match=r"columns of the table in fit, \(0, 1, 2\). Rec.* 1, 0\)"):
        columns.cells(pd.DataFrame(ROWS[:20])[[2, 1, 0]])
    np.testing.assert_array_equal(columns.cells(ROWS[:20]), ROWS[:20])


def test_counts_stay_within_the_type_of_their_column():
    frame = pd.DataFrame({"n": np.array([0, 3, 250], "uint8"), "m": pd.array([1, 2, 3], "Int8")})
    columns, _ = fitted(frame, np.ones(3), "values", "error")
    found = columns.table(np.array([[-9.0, 0.0], [9.0, 400.0]]))
    assert found["n"].tolist() == [0, 255] and found["m"].tolist() == [2, 127]
    assert list(found.dtypes) == list(frame.dtypes)


def test_missing_cells_become_medians():
    frame = mixed(40)
    holes = frame.assign(x=frame["x"].where(frame.index != 3), n=frame["n"].where(frame.index != 5))
    found = FlowDensity(**TINY, missing="median").fit(holes)
    filled = holes.fillna({"x": np.sort(frame["x"].drop(3))[19],
                           "n": np.sort(frame["n"].drop(5))[19]})
    np.testing.assert_allclose(found.score_samples(holes), found.score_samples(filled), rtol=1e-12)
