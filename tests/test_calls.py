"""How far it is from `fit` to what takes its time, for who reads a traceback or a profile."""

import pathlib
import traceback

import numpy as np
import pytest

from bijectors.flows import image_flow
from tfresflow import FlowModel
from tfresflow.functions import jacobian

OURS = tuple(str(pathlib.Path(__file__).parents[1] / name) for name in ("bijectors", "tfresflow"))


@pytest.mark.slow
def test_from_fit_to_a_product(monkeypatch):
    stacks, init = [], jacobian._Reverse.__init__

    def listening(self, vjp, forward):
        def product(u):
            stacks.append([(frame.filename, frame.name) for frame in traceback.extract_stack()
                           if frame.filename.startswith(OURS) and frame.name != "<listcomp>"
                           and frame.filename != jacobian.__file__])
            return vjp(u)
        init(self, product, forward)

    monkeypatch.setattr(jacobian._Reverse, "__init__", listening)
    flow = image_flow([8, 8, 1], nblocks=(1,), idim=4, fc_end=False, actnorm=False)
    model = FlowModel(flow, nbits=4)
    model.compile("sgd")
    # The last batch is a smaller one.
    model.fit(np.random.default_rng(0).uniform(size=[40, 8, 8, 1]), verbose=0)
    assert stacks
    for stack in stacks:
        assert stack[0][1] == "fit"
        assert len(stack) <= 20, "\n".join(map(str, stack))
        assert len({file for file, _ in stack}) <= 9, stack
