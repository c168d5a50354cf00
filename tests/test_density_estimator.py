"""`FlowDensity` as an estimator: all that scikit-learn asks for."""

import importlib
import sys

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

from bijectors import density
from bijectors.density import FlowDensity
from tests.tables import ROWS, TINY


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
