"""The runner of `make bench`: this project's measurements, the table and the plot.

What it measures of normflows needs PyTorch, and is not tested here.
"""

import math

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from benchmarks import noise, probes, run, variance
from bijectors import flows

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


def test_probes_are_unbiased(capsys):
    flow = flows.tabular_flow(4, nblocks=2, dims=(6, 6), seed=0)
    x = np.random.RandomState(0).randn(6, 4).astype("float32")
    once = variance.table("small", flow, x, draws=2)
    assert len(capsys.readouterr().out.splitlines()) == 3 + len(variance.WAYS) - 1  # no preact
    own = once, [(4,)] * 2, len(x)
    sds, exact = noise.noise(*own, 2, probes.sphere, 4)  # four of four directions
    assert max(sds) < 1e-5
    for draw, m, first, mean in variance.WAYS.values():
        if not first and not mean:
            sds, log_det = noise.noise(*own, 30, draw, m)
            assert abs(np.mean(log_det - exact)) < 4 * sds[1] / math.sqrt(30) + 1e-6, draw
    [v] = probes.normal(np.random.RandomState(0), 6, np.zeros([2, 4], int), 1, None)
    v = [tf.constant(v[:, i], tf.float32) for i in range(2)]
    whole, first, mean = (once(v, tf.constant(a), tf.constant(b))
                          for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)))
    term = sum(tf.reduce_sum(u * own, axis=1) for u, own in zip(whole[2], v))
    np.testing.assert_allclose(first[0], whole[0] - term, atol=1e-5)
    # Where no activation comes first, J~ is J.
    np.testing.assert_allclose(mean[0], first[0], atol=1e-5)
    np.testing.assert_allclose(mean[1], first[1], atol=1e-5)


def test_anomalies_are_tested_only_and_the_table_says_their_means(monkeypatch):
    pytest.importorskip("pyod")
    from benchmarks import anomalies, tables
    rows, anomalous = tables.TABLES["iris"]()
    train, test, truth = tables.parted(rows, anomalous, 3)
    assert (len(train), len(test), truth.sum()) == (50, 100, 50)
    together = np.concatenate([train, test[~truth]])
    assert sorted(map(tuple, together)) == sorted(map(tuple, rows[~anomalous]))
    np.testing.assert_array_equal(np.sort(test[truth], axis=0), np.sort(rows[anomalous], axis=0))
    petals = {"petal": lambda train, test, seed: test[:, 2], "none": lambda train, test, seed:
              np.zeros(len(test))}
    found = anomalies.areas("iris", [0, 1], petals)
    assert found["none"] == [0.5, 0.5] and min(found["petal"]) > 0.98
    lines = anomalies.table({"a": {"x": [0.9, 0.7]}, "b": {"x": [0.6, 0.6]}})
    assert lines == ["| table | x |", "|---|---|", "| a | 0.800 |", "| b | 0.600 |",
                     "| **mean** | 0.700 |", "| standard error over splits | 0.050 |"]
