"""Heavy tails of the number of terms are seen where they are, and told once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import Chain, InvertibleResidual, heavy_tails
from bijectors.flows import image_flow
from tests.command import SMOKE
from tests.registry import REGISTRY, shared
from tfresflow import layers, logdet
from train import tails
from train.main import main


def linear(slope, name):
    kernel = keras.initializers.Identity(slope)
    branch = layers.InducedNormDense(8, kernel_initializer=kernel, dtype="float64")
    return InvertibleResidual(branch, [8], name=name)


@pytest.mark.parametrize("rule, heavy", [
    (logdet.Poisson(), ["steep"]), (logdet.Poisson(2.0, 20), ["steep"]),
    (logdet.Geometric(0.5), ["steep"]), (logdet.Geometric(0.02), []), (logdet.Adaptive(), []),
    (logdet.Bracket(), []), (logdet.Truncated(3), [])])
def test_the_steep_block_is_named(rule, heavy):
    """Of infinite variance are Poisson's law, and that of p = 0.5 as 0.96^2 > 1 - p."""
    flow = Chain([linear(0.3, "flat"), linear(-0.96, "steep")], [8])
    found = heavy_tails(flow, np.ones([4, 8]), rule)
    assert [name.split("/")[-1] for name in found] == heavy
    assert all(factor > 4 for factor in found.values())


@pytest.mark.slow
def test_of_images():
    flow = image_flow([8, 8, 1], nblocks=(1, 1), idim=4, fc_idim=4, n_fc_blocks=1, seed=0)
    assert not heavy_tails(flow, tf.random.uniform([4, 8, 8, 1], seed=0), logdet.Poisson())


@pytest.mark.fast("toy_flow")
@pytest.mark.parametrize("name", REGISTRY)
def test_law_every_flow_can_be_asked(name):
    flow, x = shared(name)
    assert set(heavy_tails(flow, x, logdet.Poisson())) <= set(flow.branches())


@pytest.mark.slow
@pytest.mark.usefixtures("only_train")
def test_a_run_says_it_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tails, "heavy_tails", lambda flow, x, rule, context: {"here": 9.0})
    args = [SMOKE, "--nblocks=1", "--niters=4", "--val_every=2", "--n_dist=poisson"]
    assert main(["x", *args, f"--workdir={tmp_path}"]) == 0
    assert capsys.readouterr().err.count("most of all here, rare draws") == 1
