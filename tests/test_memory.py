"""What each strategy keeps between the passes, and how its peak grows with the depth."""

import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tests.allocator import peaks
from tests.gradients import FORWARD, WAYS, deep, estimator
from tests.registry import example
from tfresflow import FlowModel, autodiff, logdet, optimizers
from tfresflow.batches.seeds import Part, as_seed
from tfresflow.functions.steps import Rows

BATCH = 16384  # the allocator counts no tensors of less than 256 KiB


def measured(depth, strategy, batch=BATCH, width=64):
    """Bytes at the peak of a step of a chain of blocks wider than what goes between them."""
    x = tf.cast(example([8], batch), tf.float32)
    model = FlowModel(deep(depth, width), autodiff=strategy)
    step = tf.function(lambda: model._sums(x, tf.ones([batch]), Part(as_seed(0)))[1],
                       autograph=False)
    return min(peaks(step))


@pytest.mark.exhaustive
@pytest.mark.allocator
def test_peak_against_depth():
    """Beside an input, or all activations, of a block; `train.reproduce strategies` has 128."""
    x, hidden = BATCH * 8 * 4, BATCH * 64 * 4  # operations run in any order: one more, or less
    shallow, deeper = measured(4, autodiff.Stored()), measured(12, autodiff.Stored())
    activations = (deeper - shallow) / 8
    for strategy, depths in ((autodiff.Reversible(), (4, 20)), (FORWARD["moonwalk_pure"], (2, 6))):
        first, last = (measured(depth, strategy) for depth in depths)
        assert last - first < 0.02 * (depths[1] - depths[0]) * activations + hidden, strategy
    narrow = {"batch": 2 * BATCH, "width": 16}
    few, every = (measured(depth, autodiff.Recomputed(), **narrow) for depth in (4, 36))
    kept = measured(36, autodiff.Checkpointed(), **narrow)
    assert every - few == pytest.approx(32 * 2 * x, rel=0.2)
    assert kept - few < 12 * 2 * x  # 6 + 6 inputs, not 36
    assert measured(20, autodiff.Moonwalk(fallback=None)) < deeper / 2


@pytest.mark.slow
@pytest.mark.allocator
@pytest.mark.parametrize("strategy", [autodiff.Stored(), autodiff.Recomputed(),
                                      autodiff.Reversible()], ids=lambda s: type(s).__name__)
def test_the_expected_peak(strategy):
    shown = autodiff.saved(deep(8, width=64), strategy, BATCH)
    assert shown.peak == pytest.approx(measured(8, strategy), rel=0.5)
    assert f"{shown.num_bytes:,}  kept" in str(shown)


@pytest.mark.slow
def test_what_is_kept():
    """Inputs of steps; 2,000 examples, as the activations of a few are kept."""
    flow, x = deep(4), 2000 * 8 * 4
    shown = {way: autodiff.saved(flow, way, 2000) for way in (
        autodiff.Stored(), autodiff.MemoryPoor(), autodiff.Checkpointed(), autodiff.Reversible())}
    kept = [s.num_bytes for s in shown.values()]
    assert kept[1:] == [2 * x, 4 * x, x] and kept[0] > 20 * x  # z, for the loss, among them
    assert autodiff.saved(flow, autodiff.Reversible(), np.zeros([2000, 8])) == shown[
        autodiff.Reversible()]


@pytest.mark.slow
def test_auto_takes_the_fastest_that_fits():
    flow, x = deep(3), tf.zeros([256, 8])
    steps, rows, d = flow.bind(0, 256, x.dtype).steps, Rows(tf.range(256)), tf.ones([256])
    limit = autodiff.saved(flow, autodiff.Recomputed(), 256).peak - 1
    way = autodiff.Auto(limit).choice(steps, x, rows, d)
    assert autodiff.saved(flow, way, 256).peak <= limit
    assert autodiff.Auto(10 ** 9).choice(steps, x, rows, d) == autodiff.Recomputed()
    with pytest.raises(ValueError, match="`memory_limit` must be at least the least expected"):
        autodiff.Auto(1000).choice(steps, x, rows, d)
    model = FlowModel(flow, autodiff=autodiff.Auto(1000, batch_size=12))
    model.compile(optimizers.Adam())
    with pytest.raises(ValueError, match="bytes for 12 examples"):
        model.fit(example([8], 20), batch_size=12, verbose=0)


@pytest.mark.slow
@pytest.mark.allocator
def test_what_grows_with_the_depth():
    """By its input alone; by all activations, of the series too; by those of g."""
    x = tf.cast(example([64], 4096), tf.float32)
    settings = {**estimator(rule=logdet.Truncated(3), gradient=logdet.Series()),
                "dtype": "float32"}
    peak = {}
    for name in ("inputs", "stored", "released"):
        for depth in (2, 14):
            flow = flows.tabular_flow([64], nblocks=depth, dims=(8,), actnorm=False, **settings)
            model = FlowModel(flow, autodiff=WAYS[name])
            step = tf.function(lambda: model._sums(x, tf.ones([4096]), Part(as_seed(0)))[1],
                               autograph=False)
            peak[name, depth] = min(peaks(step))
    growth = {name: (peak[name, 14] - peak[name, 2]) / 12 / (x.shape.num_elements() * 4)
              for name in ("inputs", "stored", "released")}
    assert (0.7 < growth["inputs"] < 1.3 < 1.7 < growth["released"] < 2.5
            < 3.5 < growth["stored"]), growth
