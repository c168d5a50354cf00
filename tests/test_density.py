"""`FlowDensity`: densities and probabilities that are known, samples, outliers, weights."""

import importlib
import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import clone

from bijectors.density import FlowDensity
from bijectors.density.fitting import _batches, distinct
from tests.tables import COVARIANCE, GAUSSIAN, MEAN, ROWS, TINY, mixed


@pytest.fixture(scope="module")
def measured():
    """Of measured columns, whose units lie far apart."""
    return FlowDensity(nblocks=3, dims=(16,), max_steps=300, learning_rate=1e-2, noise=0.0,
                       random_state=0).fit(ROWS)


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
