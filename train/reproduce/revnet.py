"""A RevNet of additive couplings that tells the digits, as Moonwalk's paper takes one."""

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from sklearn.datasets import load_digits

from bijectors import Chain, Coupling, Squeeze

tfb = tfp.bijectors
__all__ = ["cross_entropy", "digits", "revnet"]

_BLOCKS, _SIDE, _CLASSES = 3, 8, 10


def digits(channels, count, dtype=np.float32):
    """`(images [count, 8, 8, channels], labels [count])`: in [0, 1], zeros in all but a channel."""
    images, labels = load_digits(return_X_y=True)
    places = np.resize(np.arange(len(labels)), count)
    x = np.zeros([count, _SIDE, _SIDE, channels], dtype)
    x[..., 0] = images[places].reshape(-1, _SIDE, _SIDE) / 16
    return x, labels[places].astype(np.int32)


def revnet(channels, layers, hidden=32, seed=0, slope=None, dtype="float32"):
    """Three blocks of couplings `(a, b + F(a))`, F two convolutions; a squeeze after each.

    Args:
      channels: of the image.
      layers: couplings of a block.
      hidden: channels between the two convolutions.
      seed: of the initial weights.
      slope: c, where `tanh(c x)` follows each coupling; None: nothing does.
      dtype: of the weights.
    """
    keras.utils.set_random_seed(seed)
    shape, steps = (_SIDE, _SIDE, channels), []
    for _ in range(_BLOCKS):
        for i in range(layers):
            steps.append(_coupling(shape, hidden, i % 2 == 1, dtype))
            steps += [] if slope is None else [_tanh(slope, dtype)]
        steps.append(Squeeze(shape))
        shape = steps[-1].latent_shape(shape)
    return Chain(steps[::-1], event_shape=(_SIDE, _SIDE, channels))


def _tanh(slope, dtype):
    return tfb.Chain([tfb.Tanh(), tfb.Scale(tf.constant(slope, dtype))])


def _coupling(shape, hidden, swap, dtype):
    moved = shape[-1] // 2
    small, biases = keras.initializers.VarianceScaling(0.1), keras.initializers.RandomUniform()
    network = keras.Sequential([
        keras.layers.Conv2D(hidden, 3, padding="same", activation="relu", dtype=dtype,
                            bias_initializer=biases),
        keras.layers.Conv2D(moved, 3, padding="same", kernel_initializer=small, dtype=dtype)])
    network.build((None, *shape[:-1], shape[-1] - moved))
    return Coupling(network, shape, log_scale=None, swap=swap)


def cross_entropy(z, labels):
    """Mean cross-entropy, nats, of logits that are fixed random sums of z."""
    z = tf.reshape(z, [z.shape[0], -1])
    size = z.shape[1]
    readout = np.random.RandomState(0).randn(size, _CLASSES) / np.sqrt(size)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels, z @ tf.constant(readout, z.dtype)))
