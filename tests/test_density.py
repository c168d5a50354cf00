"""`FlowDensity`: densities and probabilities that are known, and all that scikit-learn asks for."""

import importlib
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from bijectors import density
from bijectors.density import FlowDensity
from bijectors.density.columns import fitted
from bijectors.density.fitting import _batches, distinct
from bijectors.density.kinds import Categorical, Continuous, Counted
from bijectors.density.noise import keys_of, uniform

TINY = {"nblocks": 1, "dims": (8,), "max_steps": 20, "validate_every": 10, "random_state": 0}
MEAN, COVARIANCE = np.array([1e6, 0.0, -2.0]), np.array(
    [[100.0, 8.0, 0.0], [8.0, 1.0, 1e-3], [0.0, 1e-3, 1e-4]])
GAUSSIAN = scipy.stats.multivariate_normal(MEAN, COVARIANCE)
ROWS = GAUSSIAN.rvs(4000, random_state=0)


@pytest.fixture(scope="module")
def measured():
    """Of measured columns, whose units lie far apart."""
    return FlowDensity(nblocks=3, dims=(16,), max_steps=300, learning_rate=1e-2, noise=0.0,
                       random_state=0).fit(ROWS)


def mixed(count=1500):
    """A count, a category that depends on a measured number, and another that does not."""
    random = np.random.RandomState(1)
    x = random.randn(count)
    colour = np.where(x + 0.3 * random.randn(count) > 0.5, "red", "blue")
    return pd.DataFrame({"x": x, "n": random.poisson(3.0, count), "colour": colour,
                         "old": random.rand(count) < 0.2})


@pytest.fixture(scope="module")
def of_mixed():
    return FlowDensity(nblocks=2, dims=(16,), max_steps=200, noise=0.0, random_state=0,
                       learning_rate=1e-2).fit(mixed())


def test_a_gaussian_is_found_in_the_units_of_the_table(measured):
    test = GAUSSIAN.rvs(1000, random_state=1)
    found, true = measured.score_samples(test), GAUSSIAN.logpdf(test)
    # A Gaussian of independent columns, the best with nothing learned, is 0.5 nats off.
    assert abs(np.mean(true - found)) < 0.05
    assert np.mean(np.abs(true - found)) < 0.2
    assert measured.score(test) == pytest.approx(found.mean(), abs=1e-12)


@pytest.mark.slow
def test_the_density_of_a_column_integrates_to_one():
    random = np.random.RandomState(0)
    rows = np.concatenate([random.randn(300), 0.3 * random.randn(100) + 4])[:, None] * 50
    found = FlowDensity(**{**TINY, "nblocks": 2, "max_steps": 100}, noise=0.0).fit(rows)
    grid = np.linspace(-600, 800, 14001)[:, None]
    p = np.exp(found.score_samples(grid))
    assert p.sum() * 0.1 == pytest.approx(1.0, abs=1e-4)
    # Held out or not, it is nearer to the data than a Gaussian.
    assert found.score(rows) > scipy.stats.norm(*scipy.stats.norm.fit(rows)).logpdf(rows).mean()


@pytest.mark.slow
def test_probabilities_of_counts_and_categories(of_mixed):
    """The share of each of all cells, and their sum."""
    frame = mixed(40000)
    x = np.linspace(-4, 4, 81)
    cells = pd.MultiIndex.from_product([x, range(12), ["blue", "red"], [False, True]],
                                       names=["x", "n", "colour", "old"]).to_frame(index=False)
    p = cells.assign(p=0.1 * np.exp(of_mixed.score_samples(cells)))
    assert p["p"].sum() == pytest.approx(1.0, abs=0.02)
    for column in ("n", "colour", "old"):
        shares = frame[column].value_counts(normalize=True)
        found = p.groupby(column)["p"].sum()
        common = shares[shares > 0.02].index
        np.testing.assert_allclose(found[common], shares[common], atol=0.035)
    red = p[p["x"] > 1].groupby("colour")["p"].sum()  # what it depends on is learned
    assert red["red"] / red.sum() > 0.7 > 2 * (frame["colour"] == "red").mean()


def test_scores_are_repeatable_and_those_of_a_row_alone(of_mixed):
    frame = mixed(60)
    scores = of_mixed.score_samples(frame)
    np.testing.assert_array_equal(of_mixed.score_samples(frame), scores)
    order = np.random.RandomState(0).permutation(60)
    np.testing.assert_allclose(of_mixed.score_samples(frame.iloc[order]), scores[order], rtol=1e-12)
    np.testing.assert_allclose(of_mixed.score_samples(frame[7:8]), scores[7:8], rtol=1e-12)


def test_samples_have_the_columns_types_and_shares_of_the_table(of_mixed):
    frame, found = mixed(), of_mixed.sample(3000, random_state=3)
    pd.testing.assert_frame_equal(of_mixed.sample(3000, random_state=3), found)
    assert list(found.dtypes) == list(frame.dtypes) and list(found) == list(frame)
    assert np.isfinite(of_mixed.score_samples(found[found["n"] >= 0])).all()
    for column in ("x", "n"):
        assert found[column].mean() == pytest.approx(frame[column].mean(), abs=0.2)
        assert found[column].std() == pytest.approx(frame[column].std(), rel=0.15)
    for column, value in (("colour", "red"), ("old", True)):
        assert np.mean(found[column] == value) == pytest.approx(
            np.mean(frame[column] == value), abs=0.05)


def test_outliers_are_the_share_that_was_asked_for(measured):
    assert np.mean(measured.predict(ROWS) == -1) == 0.1
    found = measured.decision_function(ROWS) < 0
    np.testing.assert_array_equal(measured.predict(ROWS) == -1, found)
    far = MEAN + 8 * np.sqrt(np.diag(COVARIANCE))
    assert measured.predict(far[None]).tolist() == [-1]
    scores = np.sort(measured.score_samples(ROWS))
    assert measured.offset_ == pytest.approx(scores[399:401].mean(), rel=1e-9)


@pytest.mark.parametrize("copied", [lambda d: pickle.loads(pickle.dumps(d)),
                                    lambda d: importlib.import_module("copy").deepcopy(d)])
def test_a_copy_scores_and_samples_alike(of_mixed, copied):
    other = copied(of_mixed)
    np.testing.assert_allclose(other.score_samples(mixed(50)), of_mixed.score_samples(mixed(50)),
                               rtol=1e-12)
    pd.testing.assert_frame_equal(other.sample(4, 0), of_mixed.sample(4, 0))


@pytest.mark.slow
def test_the_best_weights_are_kept():
    """Ten rows, learned by heart: what is held out gets less likely soon."""
    few = ROWS[:12]
    found = FlowDensity(nblocks=2, dims=(32,), noise=0.0, learning_rate=0.05, max_steps=400,
                        validate_every=5, patience=3, random_state=0).fit(few)
    longer = clone(found).set_params(patience=400, max_steps=100).fit(few)
    assert found.n_steps_ <= 100 and longer.n_steps_ == found.n_steps_
    np.testing.assert_allclose(longer.score_samples(ROWS[:50]), found.score_samples(ROWS[:50]),
                               rtol=1e-6)


def test_rows_that_are_equal_are_one_with_the_sum_of_their_weights():
    rows, weights = distinct(np.array([[2.0, 1], [0, 3], [2, 1], [0, 1]]), np.array([1.0, 2, 3, 4]))
    assert rows.tolist() == [[0, 1], [0, 3], [2, 1]] and weights.tolist() == [4, 2, 4]


@pytest.mark.parametrize("weights", [np.ones(10), np.array([1.0, 2, 5, 0.5, 0, 0, 0, 3, 4, 4.5])])
def test_batches_have_rows_as_often_as_their_weights_say(weights):
    stream = _batches(weights, 5, np.random.RandomState(0))
    drawn = np.array([next(stream) for _ in range(2 * 50)])
    counts = np.bincount(drawn.ravel(), minlength=10)
    assert drawn.shape == (100, 5)
    np.testing.assert_allclose(counts, 500 * weights / weights.sum(), atol=15)
    first = np.bincount(drawn[:2].ravel(), minlength=10)  # a pass
    assert np.all(np.abs(first - 10 * weights / weights.sum()) < 1)


@pytest.mark.slow
def test_a_weight_of_two_is_the_row_twice_in_any_order():
    weights = np.random.RandomState(0).randint(0, 4, 60)
    twice = np.random.RandomState(1).permutation(np.repeat(ROWS[:60], weights, axis=0))
    weighted = FlowDensity(**TINY).fit(ROWS[:60], sample_weight=weights)
    repeated = FlowDensity(**TINY).fit(twice)
    np.testing.assert_allclose(weighted.decision_function(ROWS[:90]),
                               repeated.decision_function(ROWS[:90]), rtol=1e-7, atol=1e-9)


# The parts ---------------------------------------------------------------------------------


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


# Tables ------------------------------------------------------------------------------------


def changed(**columns):
    return mixed(40).assign(**columns)


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


# What scikit-learn asks for ----------------------------------------------------------------


@pytest.mark.parametrize("given, message", [
    ({"contamination": 0.6}, r"`contamination` must be in \(0, 0.5\]. Received: contamination=0.6"),
    ({"missing": "mean"}, r"`missing` must be error or median. Received: missing=mean"),
    ({"integers": None}, r"`integers` must be values or dtype"),
    ({"max_steps": 0}, r"`max_steps` must be at least 1, a whole number"),
    ({"noise": -1}, r"`noise` must not be negative"),
    ({"learning_rate": "fast"}, r"`learning_rate` must be positive"),
    ({"validation_fraction": 1}, r"`validation_fraction` must be in \(0, 1\)"),
    ({"coeff": 1.5}, r"`coeff` must be in \(0, 1\)"),
    ({"dims": ()}, r"`dims` must be one or more")])
def test_a_parameter_that_is_not_right_is_one_line(given, message):
    with pytest.raises(ValueError, match=message):
        FlowDensity(**{**TINY, **given}).fit(ROWS[:50])


def test_parameters_are_those_of_scikit_learn():
    density = FlowDensity(nblocks=2, dims=(8, 8))
    assert density.get_params()["dims"] == (8, 8)
    assert clone(density).set_params(noise=0.5).noise == 0.5 and density.noise != 0.5


@pytest.mark.slow
def test_in_a_pipeline_and_a_search():
    steps = make_pipeline(StandardScaler(), FlowDensity(**TINY))
    search = GridSearchCV(steps, {"flowdensity__noise": [0.1, 3.0]}, cv=2).fit(ROWS[:300])
    assert search.best_params_ == {"flowdensity__noise": 0.1}
    assert set(search.predict(ROWS[:50])) <= {1, -1}


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"needs pip install 'tfresflow\[train\]'"):
        importlib.reload(density)


SMALL = FlowDensity(nblocks=1, dims=(8,), max_steps=10, validate_every=10)


@pytest.mark.slow
def test_all_checks_of_scikit_learn_pass():
    results = check_estimator(SMALL, on_fail=None, on_skip=None)
    said = {one["check_name"]: one["exception"] for one in results if one["status"] != "passed"}
    assert len(results) > 40 and set(said) <= {"check_array_api_input"}  # needs another package


@pytest.mark.parametrize("name", ["check_dict_unchanged"])
def test_some_checks_of_scikit_learn_pass(name):
    [check] = [partial for _, partial in estimator_checks_generator(SMALL)
               if getattr(partial, "func", partial).__name__ == name][:1]
    check(clone(SMALL))
