"""`FlowDensity(context=)`: conditional densities of tables, and what is a context."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bijectors.density import FlowDensity
from bijectors.density.columns import fitted_context
from tests.tables import TINY

NAMES = ["dose", "kind", "code"]


def table(count=800):
    """y given a measured number, a category and a code: a Gaussian, that is known."""
    random = np.random.RandomState(1)
    frame = pd.DataFrame({"dose": 50 + 10 * random.randn(count),
                          "kind": np.where(random.rand(count) < 0.3, "new", "old"),
                          "y": random.randn(count), "code": random.randint(0, 3, count)})
    return frame.assign(y=given(frame).mean() + given(frame).std() * frame["y"])


def given(frame):
    """The density of y."""
    dose = (frame["dose"] - 50) / 10
    mean = np.where(frame["kind"] == "new", 2.0, -1.0) * dose + 3 * (frame["code"] == 1)
    return scipy.stats.norm(1000 * mean, 1000 * np.exp(0.4 * dose))


@pytest.fixture(scope="module")
def conditional():
    return FlowDensity(nblocks=3, dims=(32,), noise=0.0, random_state=0, context=NAMES).fit(table())


@pytest.mark.slow
def test_a_conditional_gaussian_is_found(conditional):
    """The mean over rows that it has not seen, in the units of the table."""
    test = table(2000)[800:]
    true = given(test).logpdf(test["y"])
    assert abs(np.mean(true - conditional.score_samples(test))) < 0.05
    alone = FlowDensity(**TINY, noise=0.0).fit(table()[["y"]])
    assert alone.score(test[["y"]]) < true.mean() - 0.5


@pytest.mark.slow
def test_mass_is_one_at_each_context(conditional):
    grid = np.linspace(-2e4, 2e4, 4001)
    for _, row in table(5).iterrows():
        rows = pd.DataFrame({**row.to_dict(), "y": grid})[list(table(1))]
        assert 10 * np.exp(conditional.score_samples(rows)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
def test_samples_at_contexts_and_outliers_given_theirs(conditional):
    """A row for each sample, with its context, in the order and the types of the table."""
    contexts = table()[NAMES][:3]
    found = conditional.sample(500, 0, context=contexts)
    assert list(found) == list(table()) and list(found.dtypes) == list(table().dtypes)
    pd.testing.assert_frame_equal(found[NAMES], contexts.loc[contexts.index.repeat(500)]
                                  .reset_index(drop=True))
    want = given(contexts)
    means = found["y"].to_numpy().reshape(3, 500).mean(axis=1)
    np.testing.assert_allclose((means - want.mean()) / want.std(), 0, atol=0.4)
    rows = contexts.assign(y=want.mean())[list(table())]
    assert conditional.predict(rows).tolist() == [1, 1, 1]
    far = rows.assign(y=rows["y"] + 6 * want.std())  # an ordinary number, but not there
    assert conditional.predict(far).tolist() == [-1, -1, -1]
    assert np.mean(conditional.predict(table()) == -1) == pytest.approx(0.1, abs=1e-3)
    copy = pickle.loads(pickle.dumps(conditional))
    np.testing.assert_array_equal(copy.score_samples(far), conditional.score_samples(far))
    pd.testing.assert_frame_equal(copy.sample(2, 0, context=contexts),
                                  conditional.sample(2, 0, context=contexts))


@pytest.mark.slow
def test_an_array_in_a_pipeline():
    """Its columns by their indices, and again in their places in what is drawn."""
    random = np.random.RandomState(0)
    rows = np.stack([random.randn(200), random.randn(200), random.rand(200)], axis=1)
    density = FlowDensity(**TINY, context=(1,))
    assert clone(density).get_params()["context"] == (1,)
    steps = make_pipeline(StandardScaler(), density).fit(rows)
    assert set(steps.predict(rows)) == {1, -1}
    found = steps[-1].sample(2, 0, context=[[7.0], [8.0]])
    assert found.shape == (4, 3) and found[:, 1].tolist() == [7, 7, 8, 8]
    other = FlowDensity(**TINY, context=1).fit(rows, sample_weight=np.ones(200))
    alike = FlowDensity(**TINY, context=[1]).fit(rows)
    np.testing.assert_allclose(other.score_samples(rows), alike.score_samples(rows), rtol=1e-9)


def test_what_a_flow_is_given_of_contexts():
    """Categories and few whole numbers one-hot, measured and many scaled; constants are 0."""
    frame = pd.DataFrame({"x": [1.5, 2.5, 3.5, 4.5], "old": [True, False, True, True],
                          "k": [7, 9, 7, 7], "one": 4 * [0.1]})
    columns, cells = fitted_context(frame, np.ones(4), "error")
    found = columns.encoded(cells)
    np.testing.assert_allclose(found[:, 0], (frame["x"] - 3) / np.sqrt(1.25), rtol=1e-12)
    assert found[:, 1:3].tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]
    np.testing.assert_allclose(found[:, 3].mean(), 0, atol=1e-12)
    assert found[:, 4:6].tolist() == [[1, 0], [0, 1], [1, 0], [1, 0]]
    np.testing.assert_allclose(found[:, 6], 0, atol=1e-12)
    unseen = columns.encoded(columns.cells(frame.assign(k=8)))
    assert not unseen[:, 4:6].any()
    many, cells = fitted_context(np.arange(30)[:, None], np.ones(30), "error")
    assert many.encoded(cells).shape == (30, 1)
    pd.testing.assert_frame_equal(columns.written(columns.cells(frame)), frame)


ROWS = np.random.RandomState(0).randn(30, 3)


@pytest.mark.parametrize("context, table, message", [
    (["x"], table(30), r"`context` must be names of some of the columns of X, .* context=\['x'\]"),
    (["dose", "dose"], table(30), "each once"),
    (list(table(1)), table(30), "must be names of some"),
    ([], table(30), "`context` must be"), (3.5, ROWS, r"indices of some .* are \[0, 1, 2\]"),
    ([3], ROWS, "`context` must be indices"), (["dose"], ROWS, "`context` must be indices"),
    (["dose"], table(30).assign(dose=[np.nan] + 29 * [1.0]), "NaN in row 0, column 'dose'"),
    ([2], np.where(np.arange(90).reshape(30, 3) == 5, np.nan, ROWS), "NaN in row 1, column 2"),
    (["day"], table(30).assign(day=pd.date_range("2020-01-01", periods=30)), "datetime64 in")])
def test_what_is_no_context_to_fit(context, table, message):
    with pytest.raises(ValueError, match=message):
        FlowDensity(**TINY, context=context).fit(table)


@pytest.fixture(scope="module")
def tiny():
    return FlowDensity(**TINY, context=NAMES).fit(table(30))


@pytest.mark.parametrize("changed, message", [
    ({"kind": "other"}, "'other' in row 0, column 'kind'"),
    ({"dose": np.inf}, "inf in row 0, column 'dose'")])
def test_contexts_are_looked_at_by_name(tiny, changed, message):
    frame = table(3).assign(**changed)
    for call in (tiny.score_samples, lambda frame: tiny.sample(1, 0, context=frame[NAMES])):
        with pytest.raises(ValueError, match=message):
            call(frame)


@pytest.mark.parametrize("context, message", [
    (None, r"`context` must be a table of the columns \('dose', 'kind', 'code'\). Received: con"),
    (table(3)[["dose", "kind"]], r"Received: context=shape \(3, 2\)"),
    (table(3)[NAMES[::-1]], r"must have the columns of the table in fit"),
    ([[1.0, 2.0, 3.0]], "a DataFrame as in fit. Received: context=list")])
def test_samples_need_their_contexts(tiny, context, message):
    with pytest.raises(ValueError, match=message):
        tiny.sample(1, 0, context=context)


def test_no_context_where_none_was_fitted():
    density = FlowDensity(**TINY).fit(ROWS)
    with pytest.raises(ValueError, match="`context` must not be given: in fit, there was none"):
        density.sample(1, 0, context=ROWS[:, :1])
