"""Convolutional models of the package normflows, by its formulas."""

import re

import numpy as np
import pytest

from bijectors import flows
from tests.test_reference_couplings import conv, sigmoid

SIDES, COEFF = (4, 6), 0.9


def cnn(random, name, channels, kernels):
    """Entries of a residual block with a `LipschitzCNN` that has seen images."""
    found = {"geom_p": 0.0, "lamb": 2.0, "last_n_samples": [0], "last_firmom": [0],
             "last_secmom": [0]}
    for i, (inputs, outputs, k) in enumerate(zip(channels, channels[1:], kernels)):
        weight = random.randn(outputs, inputs, k, k)
        v = random.randn(1, inputs, *(SIDES if k > 1 else (1, 1)))
        v /= np.linalg.norm(v)
        u = conv(v, weight)
        layer = {"weight": weight, "bias": random.randn(outputs), "initialized": 1,
                 "spatial_dims": SIDES, "scale": np.linalg.norm(u),
                 "u": u.ravel() / np.linalg.norm(u), "v": v.ravel()}
        found[f"nnet.net.{2 * i}.beta"] = random.randn(1)
        found |= {f"nnet.net.{2 * i + 1}.{key}": value for key, value in layer.items()}
    return {f"{name}.iresblock.{key}": np.asarray(value) for key, value in found.items()}


def block(x, known, name, layers):
    h = x
    for i in range(layers):
        own = f"{name}.iresblock.nnet.net."
        h = h * sigmoid(np.log1p(np.exp(known[f"{own}{2 * i}.beta"])) * h) / 1.1
        own = f"{own}{2 * i + 1}."
        weight = known[own + "weight"] / max(1, known[own + "scale"] / COEFF)
        h = conv(h, weight) + known[own + "bias"][:, None, None]
    return x + h


def model():
    random = np.random.RandomState(0)
    affine = {"flows.1.s": random.randn(1, 3, 1, 1), "flows.1.t": random.randn(1, 3, 1, 1),
              "flows.1.data_dep_init_done": np.ones([])}
    base = {"q0.loc": random.randn(1, 3, *SIDES), "q0.log_scale": random.randn(1, 3, *SIDES)}
    return {**base, **cnn(random, "flows.0", [3, 5, 4, 3], [3, 1, 3]), **affine,
            **cnn(random, "flows.2", [3, 4, 3], [1, 5])}


def test_convolutional_models():
    known, x = model(), np.random.RandomState(1).randn(2, 3, *SIDES)
    h = (block(x, known, "flows.2", 2) - known["flows.1.t"]) * np.exp(-known["flows.1.s"])
    z = (block(h, known, "flows.0", 3) - known["q0.loc"]) * np.exp(-known["q0.log_scale"])
    flow = flows.from_normflows(known, COEFF, dtype="float64")
    found = flow.forward(np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(np.moveaxis(found, -1, 1), z, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("wrong, message", [
    ({"flows.0.iresblock.nnet.net.1.weight": np.ones([5, 3, 2, 2])}, "odd, equal sides in flows.0"),
    ({"flows.1.s": np.ones([1, 3])}, "flows.1.s of shape (1, C, 1, 1) or (1, C, H, W), for images"),
    ({"flows.0.iresblock.nnet.net.1.bias": np.ones(4)}, "net.1.bias of shape (5,). Received: (4,)"),
    ({"flows.2.iresblock.nnet.net.3.v": np.ones(4)}, "net.3.v of shape (96,). Received: (4,)"),
    ({"flows.0.iresblock.nnet.net.1.weight": np.ones([5, 3])}, "must have a LipschitzCNN, flows")])
def test_what_is_wrong_is_named(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        flows.from_normflows({**model(), **wrong}, COEFF)
