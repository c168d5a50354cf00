"""What the reference computed of small models of its own, for tests."""

import functools
import pathlib

import numpy as np
import tensorflow as tf

from bijectors import InvertibleResidual, flows
from bijectors.flows.published import _entries
from bijectors.flows.reference_args import architecture, read_args
from bijectors.flows.reference_entries import _steps
from tfresflow.layers.induced_norm import vectors_given

__all__ = ["ARGS", "FILE", "MODELS", "arrays", "blocks", "model", "named_entries",
           "random_state_dict", "state_dict", "to_rows"]

_FOLDER = pathlib.Path(__file__).parents[1] / ".." / "shared" / "oracle"
FILE = _FOLDER / "ref_mnist_small.pth"
_COMMON = {"data": "cifar10", "imagesize": 16, "nblocks": "1-1-1", "idim": 16, "fc_idim": 16}
ARGS = {
    "toy": {"dims": "32-32", "nblocks": 3, "vnorms": "2222", "actnorm": True},
    "factor": {**_COMMON, "factor_out": True},
    "colour": _COMMON,
    "fcact": {**_COMMON, "fc_actnorm": True, "actnorm": False, "preact": False,
              "first_resblock": False, "act": "elu"},
    "mnist_small": {"data": "mnist", "imagesize": 28, "nblocks": "2-2", "idim": 32, "fc_idim": 32}}
MODELS = list(ARGS)


@functools.cache
def arrays(name):
    """All that is stored of a model."""
    with np.load(_FOLDER / f"ref_{name}.npz") as file:
        return {key: file[key] for key in file.files}


def state_dict(name):
    """Its weights and buffers."""
    return {key: value for key, value in arrays(name).items()
            if key.startswith(("transforms.", "chain."))}


def model(name, dtype="float64", **kwargs):
    """`(flow, x)`: the model as a flow of ours, and its examples."""
    flow = flows.from_reference(state_dict(name), ARGS[name], dtype=dtype, **kwargs)
    return flow, tf.constant(to_rows(arrays(name)["x"]), dtype)


def to_rows(x):
    """Images with the channels last."""
    return np.moveaxis(x, 1, -1) if x.ndim == 4 else x


def blocks(flow):
    """Residual blocks, in the order in which data meets them."""
    return [step for step in _steps(flow) if isinstance(step, InvertibleResidual)]


def named_entries(flow, name):
    """`{name: Entry}` of a model."""
    return _entries(flow, ARGS[name])


def random_state_dict(args, seed=0):
    """`(state_dict, args)` with names and shapes as the reference makes them."""
    with vectors_given():
        flow = architecture(read_args(args))
    random, found = np.random.RandomState(seed), {}
    for name, entry in _entries(flow, args).items():
        if entry.weight is None:
            found[name] = np.asarray(entry.default() if entry.shape else 0.0, np.float32)
        elif entry.is_order:  # each layer ends in the order that the next one begins with
            found[name] = np.float32(0.1 * len(entry.weight.path))
        else:
            found[name] = random.randn(*entry.shape).astype(np.float32) * 0.1
    return found, args
