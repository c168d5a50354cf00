"""The examples of CONTRIBUTING.md: the smallest bijector and the smallest way to the gradient."""

import pathlib
import re

import numpy as np
import pytest

import bijectors
from bijectors import flows
from tests.gradients import RULE, assert_equal, by_tape, loss_of
from tests.registry import example
from tests.test_registry import check_round_trip
from tfresflow import FlowModel, autodiff, logdet

TEXT = pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def examples():
    namespace = {"__name__": "contributing"}
    for block in re.findall(r"^```python\n(.*?)^```", TEXT.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, str(TEXT), "exec"), namespace)
    return namespace


def test_the_bijector(examples):
    x = example([3])
    flow = bijectors.Chain([bijectors.ActNorm([3], dtype="float64"), examples["Sinh"]([3])])
    check_round_trip(flow, x)
    _, log_det = flow.forward_and_log_det(x)
    np.testing.assert_allclose(log_det, np.log(np.cosh(x)).sum(1), rtol=1e-12)
    assert_equal(autodiff.gradients(flow, loss_of, x, seed=3), by_tape(flow, x))


def test_the_way_to_the_gradient(examples):
    flow = flows.toy_flow([3], nblocks=2, dims=(5,), log_det=logdet.LogDet(RULE), dtype="float64",
                          seed=0)
    x, way = example([3], 6), examples["OnlyInputs"]()
    assert_equal(autodiff.gradients(flow, loss_of, x, seed=3, autodiff=way), by_tape(flow, x))
    model = FlowModel(flow, autodiff=way)
    model.compile("sgd")
    before = model.evaluate(x, verbose=0)
    model.fit(x, epochs=3, verbose=0)
    assert model.evaluate(x, verbose=0) < before
