"""A classifier on what the scales of a flow end with."""

import keras
import tensorflow as tf

from tfresflow.checks.sizes import as_size
from tfresflow.training.hybrid import features_of

__all__ = ["scale_head"]


def scale_head(flow, num_classes, width=256):
    """A Keras model from the features of all scales of a flow to logits, for `FlowModel(head=)`.

    As in the reference: of each scale a convolution, normalised, rectified and averaged over all
    places; of a flow without scales a dense layer of z in its place. Then one linear layer.

    Args:
      flow: the flow, without a context.
      num_classes: at least 2.
      width: channels of each convolution.

    Returns:
      A `keras.Model` of a list of maps, or of z.

    Example:
      >>> from bijectors.flows import scale_head, toy_flow
      >>> from tfresflow import FlowModel
      >>> flow = toy_flow(nblocks=1, dims=8)
      >>> model = FlowModel(flow, head=scale_head(flow, 3, width=16), weight=0.1)
      >>> model.classify([[0., 1.], [2., 3.]]).shape
      TensorShape([2, 3])

    References: Chen et al., Residual Flows (2019), section 5.3, and the code published with it.
    """
    num_classes, width = as_size("num_classes", num_classes, 2), as_size("width", width)
    dtype = flow._float
    x = tf.fill([1, *flow.event_shape], tf.constant(0.5, dtype))
    inputs = [keras.Input(f.shape[1:], dtype=dtype) for f in features_of(flow, x)]
    pooled = [_of_scale(f, width, dtype) for f in inputs]
    pooled = keras.layers.Concatenate(dtype=dtype)(pooled) if len(pooled) > 1 else pooled[0]
    logits = keras.layers.Dense(num_classes, dtype=dtype)(pooled)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], logits)


def _of_scale(features, width, dtype):
    is_map = len(features.shape) == 4
    x = (keras.layers.Conv2D(width, 3, padding="same", dtype=dtype) if is_map else
         keras.layers.Dense(width, dtype=dtype))(features)
    x = keras.layers.LayerNormalization(dtype=dtype)(x)
    x = keras.layers.ReLU(dtype=dtype)(x)
    return keras.layers.GlobalAveragePooling2D(dtype=dtype)(x) if is_map else x
