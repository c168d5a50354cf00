"""The Python of README.md, run from top to bottom as a reader would."""

import math
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

README = pathlib.Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def names():
    """What all blocks define, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    namespace = {}
    for block in blocks:
        exec(compile(block, str(README), "exec"), namespace)
    return namespace


@pytest.mark.slow
def test_twenty_lines_learn_the_density(names):
    entropy = 1 + math.log(2 * math.pi) + math.log(0.3)  # of the Gaussian that x is drawn from
    mean = {name: float(tf.reduce_mean(names["dist"].log_prob(tf.identity(names[name]))))
            for name in ("x", "samples")}
    np.testing.assert_allclose(-mean["x"], entropy, atol=0.1)
    np.testing.assert_allclose(-mean["samples"], entropy, atol=0.2)


@pytest.mark.slow
def test_shapes_are_those_said(names):
    assert names["z"].shape == (8, 32, 32, 3) and names["log_det"].shape == (8,)
    assert names["h"].shape == names["x"].shape


@pytest.mark.slow
def test_fixed_point_is_one(names):
    cell, x, h = names["cell"], names["x"], names["h"]
    np.testing.assert_allclose(h, cell(h) + x, atol=1e-4)
