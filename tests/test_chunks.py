"""How many examples go through a branch at a time: as many as `chunk_bytes` says, in any block."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import bijectors
from tests.gradients import assert_close, traced
from tests.registry import example
from tfresflow import FlowModel, autodiff, logdet
from tfresflow.batches.seeds import Part, as_seed


class Recorded(keras.layers.Layer):
    """`0.6 sin(w x)`, which notes of how many examples it is traced."""

    lipschitz = 0.6

    def build(self, input_shape):
        self.w = self.add_weight(shape=(), initializer="ones")
        self.sizes = set()

    def call(self, x):
        self.sizes.add(x.shape[0])
        return 0.6 * tf.sin(self.w * x)

    def compute_output_shape(self, input_shape):
        return input_shape


BLOCKS = {"resblock": bijectors.InvertibleResidual, "monotone": bijectors.Monotone,
          "inverted": bijectors.Inverted.of(bijectors.InvertibleResidual),
          "inverted_monotone": bijectors.Inverted.of(bijectors.Monotone)}


@pytest.mark.fast("monotone", "inverted")
@pytest.mark.parametrize("name", BLOCKS)
def test_all_that_a_step_of_training_evaluates_is_in_chunks(name):
    """Solves and adjoint solves, too: 3,000 examples of 24 bytes are three chunks of 1,000."""
    g = Recorded(dtype="float64")
    flow = BLOCKS[name](g, [3], logdet.LogDet(logdet.Truncated(4)))
    x, found = tf.concat([i + example([3], 1000) for i in range(3)], axis=0), []
    for chunk_bytes in (None, 24000):
        g.sizes.clear()
        model = FlowModel(flow, autodiff=autodiff.Recomputed(chunk_bytes))
        found.append(traced(lambda x: model._sums(x, x[:, 0], Part(as_seed(3))), x))
        assert (g.sizes == {1000}) == (chunk_bytes is not None)
    assert_close(found[1], found[0], 1e-10)
    assert np.abs(found[0][1]).max() > 0.1
