"""Bits per dimension, against what is known of them."""

import numpy as np
import tensorflow as tf

import bijectors
from tfresflow import FlowModel, losses


def test_bits_per_dim_of_a_uniform_model():
    """A density of 1 on [0, 1) spends all nbits on each pixel, whatever the number of pixels."""
    for nbits in (1, 5, 8):
        np.testing.assert_allclose(losses.bits_per_dim(tf.zeros([3]), 12, nbits), nbits)


def test_bits_per_dim_by_hand():
    """Two pixels, two levels: P(q) on each is the mass of its bin."""
    # p(x) = 1.5 on [0, 1/2) and 0.5 on [1/2, 1) for each of two pixels, nbits = 1.
    q = np.array([[0, 0], [0, 1], [1, 1]])
    x = (q + 0.37) / 2
    nll = -np.log(np.where(x < 0.5, 1.5, 0.5)).sum(axis=1)
    by_hand = -np.log2(np.where(q == 0, 0.75, 0.25)).sum(axis=1) / 2
    assert by_hand[0] == -np.log2(0.75)
    np.testing.assert_allclose(losses.bits_per_dim(nll, 2, nbits=1), by_hand, rtol=1e-12)


def test_model_bits_per_dim_by_hand():
    """Logit and a scale: log p from the formula for one pixel."""
    flow = bijectors.Chain([bijectors.Flatten([1, 1, 1]),
                            bijectors.ActNorm([1, 1, 1], dtype="float64"),
                            bijectors.Logit([1, 1, 1], alpha=0.1)])
    scale, shift = flow.layers[0].log_scale, flow.layers[0].shift
    scale.assign([0.4])
    shift.assign([-0.3])
    model = FlowModel(flow, losses.StandardNormal([1], "float64"), nbits=3)
    x = np.array([0.05, 0.4, 0.9])
    s = 0.1 + 0.8 * x
    z = (np.log(s / (1 - s)) - 0.3) * np.exp(0.4)
    log_p = -0.5 * z ** 2 - 0.5 * np.log(2 * np.pi) + 0.4 + np.log(0.8 / (s * (1 - s)))
    images = tf.constant(x.reshape(3, 1, 1, 1))
    np.testing.assert_allclose(model.log_prob(images), log_p, rtol=1e-10)
    np.testing.assert_allclose(model.bits_per_dim(images), -log_p / np.log(2) + 3, rtol=1e-10)
