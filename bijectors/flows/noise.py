"""The architecture that learns the noise between the levels of images."""

import keras
import tensorflow_probability as tfp

from bijectors.chain import Chain
from bijectors.dequantize import Dequantize
from bijectors.embedded import Embedded
from bijectors.flows.blocks import Blocks
from bijectors.squeeze import Squeeze
from tfresflow import layers
from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_size, as_sizes

__all__ = ["dequantizer"]

tfb = tfp.bijectors


def dequantizer(event_shape, nbits=8, *, nblocks=2, idim=32, kernels=(3, 1, 3), features=32,
                coeff=0.98, act=layers.LipSwish, power_iteration=None, log_det=None, solver=None,
                seed=None, dtype=None):
    """Levels of images to points in [0, 1]: noise from a small conditional flow.

    Two convolutions make a map of the image. Given it, uniform noise goes through a logit, an
    ActNorm, `nblocks` residual blocks of convolutions, each followed by an ActNorm, and a sigmoid.
    Images of even height and width are taken apart into squares of 2x2 before the blocks, which
    then cost a quarter. ActNorms start as the identity, not from data.

    Args:
      event_shape: `[H, W, C]`.
      nbits: see `Dequantize`.
      nblocks: residual blocks; 0: each pixel by itself, with an exact log-determinant.
      idim: hidden channels of the blocks' convolutions.
      kernels: sizes of the convolutions of a block.
      features: channels of the map of the image.
      coeff, act, power_iteration, log_det, solver: of the blocks, see `image_flow`.
      seed: integer for the initial weights; None: different ones each time.
      dtype: of the weights.

    Returns:
      A `Dequantize`, to be the last of a `Chain`.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import Chain
      >>> from bijectors.flows import dequantizer, image_flow
      >>> from tfresflow import FlowModel
      >>> pixels = image_flow([4, 4, 1], nblocks=1, idim=4, fc_end=False)
      >>> model = FlowModel(Chain([pixels, dequantizer([4, 4, 1], nblocks=1, idim=4)]))
      >>> levels = tf.zeros([2, 4, 4, 1], tf.uint8)
      >>> model.log_prob(levels, seed=0).shape                    # bounds of log P(levels)
      TensorShape([2])

    References: Ho et al., Flow++ (2019), section 3.1.
    """
    event_shape, kernels = as_sizes("event_shape", event_shape), as_sizes("kernels", kernels)
    nblocks, features = as_size("nblocks", nblocks, 0), as_size("features", features)
    check(len(event_shape) == 3, "event_shape", "be [H, W, C]", event_shape)
    check(len(kernels) > 1, "kernels", "be at least two sizes", kernels)
    squeezes = [Squeeze(event_shape)] if event_shape[0] % 2 == event_shape[1] % 2 == 0 else []
    shape = squeezes[0].latent_shape(event_shape) if squeezes else event_shape
    blocks = Blocks(coeff=coeff, act=act, preact=False, power_iteration=power_iteration,
                    log_det=log_det, solver=solver, seed=seed, dtype=dtype,
                    context_shape=(*shape[:2], features))
    steps = [tfb.Invert(tfb.Sigmoid()), *squeezes, blocks.actnorm(shape)]
    for _ in range(nblocks):
        steps += [blocks.conv(shape, as_size("idim", idim), kernels), blocks.actnorm(shape)]
    steps += [*map(tfb.Invert, squeezes), tfb.Sigmoid()]
    network = _map(features, 2 if squeezes else 1, seed, dtype)
    noise = Embedded(Chain(steps[::-1], event_shape), network, event_shape)
    return Dequantize(noise, event_shape, nbits)


def _map(features, strides, seed, dtype):
    """A network from pixels in [0, 1) to `features` in each place, or in each square of 2x2."""
    def conv(i, strides=1):
        initializer = keras.initializers.GlorotUniform(None if seed is None else 2 * seed + i)
        return keras.layers.Conv2D(features, 3, strides, padding="same", activation="silu",
                                   kernel_initializer=initializer, dtype=dtype)

    return keras.Sequential([keras.layers.Rescaling(2.0, -1.0, dtype=dtype), conv(0, strides),
                             conv(1)])
