"""Keras layers in a residual branch that are no functions of their input."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from bijectors import InvertibleResidual
from tests.registry import example
from tfresflow import layers


def within(layer):
    return InvertibleResidual(keras.Sequential([
        layers.InducedNormDense(4), layer, layers.LipSwish(), layers.InducedNormDense(2)]), [2])


@pytest.mark.parametrize("layer, said", [
    (keras.layers.Dropout(0.5), True), (keras.layers.GaussianNoise(0.1), True),
    (keras.layers.BatchNormalization(), True), (keras.layers.Dense(4), False)],
    ids=lambda x: getattr(x, "name", ""))
def test_a_state_in_a_branch_is_told(layer, said):
    """A branch is a function: without noise, and with the statistics that it has."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        within(layer)
    assert any("layers that have a state" in str(w.message) for w in caught) == said


class AddsLoss(keras.layers.Layer):
    lipschitz = 1.0

    def call(self, x):
        self.add_loss(tf.reduce_sum(x ** 2))
        return x


def test_losses_of_a_branch_are_refused():
    """Nobody would minimise them; those of kernels are minimised."""
    with pytest.raises(ValueError, match="`branch` must have no `activity_regularizer`"):
        within(keras.layers.ActivityRegularization(l2=1.0))
    with pytest.raises(ValueError, match="`branch` must not use `add_loss`"):
        within(AddsLoss()).forward_and_log_det(example([2]))
    block = within(keras.layers.Dense(4, kernel_regularizer="l2"))
    assert np.isfinite(block.forward_and_log_det(example([2]))[1]).all()
