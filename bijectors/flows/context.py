"""What the architectures take for a context."""

import keras
import numpy as np

from bijectors.embedded import Embedded
from tfresflow.checks.rules import check, check_kind
from tfresflow.checks.sizes import as_sizes

__all__ = ["embedded", "shape_within"]


def shape_within(context_shape, context_network):
    """Shape of the context that the blocks get; None for a flow that is not conditional.

    Args:
      context_shape: shape of one context, a number K for `[K]`, `[]` for labels, or None.
      context_network: a Keras layer or model, or None.

    Raises:
      ValueError: if one is not what it should be without the other.
    """
    of_labels = np.shape(context_shape) == (0,)
    if context_network is None:
        check(not of_labels, "context_network", "be given for labels, context_shape=[]: "
              "keras.layers.Embedding(classes, K)", None)
        return None if context_shape is None else as_sizes("context_shape", context_shape)
    check(context_shape is not None, "context_shape", "be given beside `context_network`", None)
    check_kind("context_network", context_network, "be a Keras layer or model", keras.layers.Layer)
    shape = () if of_labels else as_sizes("context_shape", context_shape)
    found = tuple(context_network.compute_output_shape((None, *shape)))
    check(len(found) > 1, "context_network", "give vectors or maps, [N, ..., K], of contexts "
          f"{(None, *shape)}", found)
    return found[1:]


def embedded(flow, context_shape, context_network):
    """The flow, behind the network if there is one."""
    if context_network is None:
        return flow
    return Embedded(flow, context_network, context_shape, flow.name)
