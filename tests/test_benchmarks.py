"""The runner of `make bench`: this project's measurements, the table and the plot.

What it measures of normflows needs PyTorch, and is not tested here.
"""

import PIL.Image
import pytest

from benchmarks import run

SMALL = {"event_shape": [4, 4, 1], "nblocks": [1], "idim": 4, "batch": 2}


@pytest.mark.slow
def test_measurements_of_this_project():
    measured = run.worker(run.OURS, "step", "growth", changes=SMALL, steps=2)
    assert measured["first_step"] > measured["step"] > 0 and measured["memory"] > 1
    measured = run.worker(run.OURS, "log_prob", "growth", changes=SMALL, repeats=4)
    assert measured["distribution"] > 0 and measured["pair"] > 0


def test_a_failed_measurement_says_why():
    with pytest.raises(RuntimeError, match="(?s)benchmarks.worker tfresflow step.*no_such_field"):
        run.worker(run.OURS, "step", "growth", changes={"no_such_field": 1})


def test_rounds_are_medians_in_turns(monkeypatch):
    said = iter([1.0, 10.0, 5.0, 30.0, 3.0, 20.0])
    asked = []

    def worker(library, *args, **options):
        asked.append(library)
        return {"library": library, "step": next(said)}

    monkeypatch.setattr(run, "worker", worker)
    assert run.alternate(("a", "b"), 3, "step", "x") == {"a": {"step": 3.0}, "b": {"step": 20.0}}
    assert asked == ["a", "b"] * 3


def test_the_table_says_what_is_met():
    def library(step, memory=100.0):
        return {"step": step, "memory": memory, "first_step": 16.0}

    names = (run.OURS, *run.PEERS)
    results = {
        "step": dict(zip(names, (library(1.0), library(3.0), library(2.0, 150.0)))),
        "toy": dict(zip(names, (library(1.0), library(5.0), library(4.0)))),
        "quality": {run.OURS: {"curve": [[1.0, 1.9], [2.5, 1.5], [4.5, 1.2]]},
                    run.PEERS[0]: {"curve": [[5.0, 1.8], [10.0, 1.5]]}},
        "sample": {run.OURS: {"sample": 2.0}, run.PEERS[0]: {"sample": 3.0}},
        "log_prob": {"distribution": 1.2, "pair": 1.0}, "cifar10": {"first_step": 59.0}}
    values = [(value, met) for _, value, _, met in run.table(results)]
    assert values == [("0.50", "yes"), ("0.67", "no"), ("16.0", "no"), ("0.25", "yes"),
                      ("59.0", "yes"), ("2.5", "yes"), ("0.67", "no"), ("1.20", "no")]
    results["quality"][run.OURS]["curve"] = [[1.0, 1.9]]
    assert ("inf", "no") in [(value, met) for _, value, _, met in run.table(results)]
    assert run.table({}) == []


def test_growth_plot(tmp_path):
    points = [{"at": at, "step": 0.1 * at, "memory": 100.0} for at in (2, 8)]
    lines = {name: points for name in (run.OURS, *run.PEERS)}
    run.plot_growth({"terms n": lines, "blocks": lines}, tmp_path / "growth.png")
    assert PIL.Image.open(tmp_path / "growth.png").width > 1000
