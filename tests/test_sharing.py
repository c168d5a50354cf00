"""What may be traced once for all equal blocks: what cannot come to compute something else."""

import dataclasses
import functools
import math
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.registry import example
from tests.test_logdet import built_branch
from tfresflow import layers, logdet, solvers
from tfresflow.batches import seeds
from tfresflow.functions.traced import is_shareable

SCALE = 2.0
HELPER = types.SimpleNamespace(scale=2.0)


def pure(shape, seed, dtype):
    return math.pi / np.pi * helper(shape, seed, dtype) + [tf.zeros([], dtype) for _ in range(1)][0]


def helper(shape, seed, dtype):
    return seeds.normal(seed, shape, dtype) if shape else helper(shape, seed, dtype)


def scaled(shape, seed, dtype):
    return SCALE * seeds.normal(seed, shape, dtype)


def scaled_within(shape, seed, dtype):
    return sum(SCALE * seeds.normal(seed, shape, dtype) for _ in range(1))


def scaled_elsewhere(shape, seed, dtype):
    return scaled(shape, seed, dtype)


def scaled_by_an_object(shape, seed, dtype):
    return HELPER.scale * seeds.normal(seed, shape, dtype)


def scaled_by_a_module(shape, seed, dtype):
    return this.SCALE * seeds.normal(seed, shape, dtype)


def of_numpy(shape, seed, dtype):
    return tf.constant(np.random.randn(*shape), dtype)


def importing(shape, seed, dtype):
    from tests.test_sharing import SCALE as scale
    return scale * seeds.normal(seed, shape, dtype)


class Probe:
    scale = 1.0

    def __call__(self, shape, seed, dtype):
        return self.scale * seeds.normal(seed, shape, dtype)

    method = __call__


@dataclasses.dataclass(frozen=True)
class Terms:
    count: int = 3

    def draw(self, seed, dtype):
        return tf.ones([self.count + 1], dtype)


@dataclasses.dataclass(frozen=True)
class ScaledTerms(Terms):
    def draw(self, seed, dtype):
        return SCALE * super().draw(seed, dtype)


@dataclasses.dataclass(eq=False)
class LooseTerms:
    count: int = 3


this = sys.modules[__name__]


@pytest.mark.parametrize("what", [
    logdet.normal, logdet.rademacher, pure, keras.activations.relu, tf.nn.softplus, Terms(),
    logdet.LogDet(Terms(), probe=pure), solvers.Implicit(), (1, None, tf.float32),
    lambda shape, seed, dtype, scale=2.0: scale * seeds.normal(seed, shape, dtype)])
def test_what_computes_the_same_is_shared(what):
    assert is_shareable(what)


@pytest.mark.parametrize("what", [
    scaled, scaled_within, scaled_elsewhere, scaled_by_an_object, scaled_by_a_module, of_numpy,
    importing, Probe(), Probe().method, functools.partial(pure, dtype=tf.float64), ScaledTerms(),
    LooseTerms(), logdet.LogDet(ScaledTerms()), logdet.LogDet(probe=scaled), HELPER,
    lambda shape, seed, dtype, scale=[2.0]: scale[0] * seeds.normal(seed, shape, dtype),
    (lambda scale: lambda shape, seed, dtype: scale * seeds.normal(seed, shape, dtype))(2.0),
    (1, scaled), solvers.Roulette(ScaledTerms(), seed=0), layers.LipSwish()])
def test_what_may_change_is_not(what):
    assert not is_shareable(what)


@pytest.mark.fast("kwargs1")
@pytest.mark.parametrize("kwargs", [
    {"probe": probe} for probe in (scaled, scaled_elsewhere, scaled_by_a_module)
] + [{"coefficients": ScaledTerms()}])
def test_a_global_that_has_changed_counts(kwargs, monkeypatch):
    """In the next call, and in the next block that is traced."""
    net, x, estimator = built_branch([3]), example([3]), logdet.LogDet(**kwargs)
    for wrap in (lambda f: f, tf.function):
        values = []
        for scale in (1.0, 3.0):
            monkeypatch.setattr(this, "SCALE", scale)
            values.append(wrap(lambda: estimator(net, x, 0)[1])().numpy())
        assert np.all(np.abs(values[1] - values[0]) > 0.5 * np.abs(values[0]))
