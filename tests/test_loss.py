"""What counts in the loss besides the likelihood of each example: weights and regularisers."""

import keras
import numpy as np
import pytest

import bijectors
from tests.test_model import data, toy_model
from tfresflow import FlowModel, layers, logdet


def weights_after(x, weights=None, lr=0.1, **kwargs):
    """Of a model after two steps of plain gradient descent; ActNorm from the same data."""
    model = toy_model(**kwargs)
    model.initialize(data(64))
    model.compile(keras.optimizers.SGD(lr))
    model.fit(x, sample_weight=weights, batch_size=64, epochs=2, shuffle=False, verbose=0)
    return [w.numpy() for w in model.trainable_weights]


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 4])
def test_sample_weight(micro_batches):
    """Half of the examples at weight 2, over all N, are the mean over that half."""
    x, weights = data(64).numpy(), np.repeat([2.0, 0.0], 32).astype("float32")
    weighted, half, plain = (weights_after(*args, micro_batches=micro_batches)
                             for args in ((x, weights), (x[:32],), (x,)))
    assert max(np.abs(a - b).max() for a, b in zip(half, plain)) > 1e-3
    for got, want in zip(weighted, half):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_regularisers_of_layers_count():
    """The gradient of `decay sum(kernel^2)` beside that of the likelihood."""
    lr, decay, kernels = 0.1, 0.3, {}
    for factor in (0.0, decay):
        g = keras.Sequential([layers.InducedNormDense(
            2, 0.9, kernel_regularizer=keras.regularizers.L2(factor),
            kernel_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=0))])
        model = FlowModel(bijectors.InvertibleResidual(g, [2], logdet.LogDet(logdet.Truncated(2))))
        model.compile(keras.optimizers.SGD(lr))
        start = g.layers[0].kernel.numpy()
        model.train_on_batch(data(32))
        kernels[factor] = g.layers[0].kernel.numpy()
    np.testing.assert_allclose(kernels[decay] - kernels[0.0], -2 * lr * decay * start, atol=1e-6)
