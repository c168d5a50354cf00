"""Couplings of the PyTorch reference, by its formulas."""

import numpy as np
import pytest
import tensorflow as tf

from bijectors import flows
from tests.reference import random_state_dict
from train.main import main
from train.reference import Checkpoint, Record, write

COMMON = {"block": "coupling", "data": "cifar10", "imagesize": 8, "idim": 4, "fc_idim": 5,
          "act": "elu"}
MODELS = {
    "colour": {**COMMON, "nblocks": "3-2"},
    "grey": {**COMMON, "data": "mnist", "nblocks": "1-2", "act": "swish", "preact": False},
    "factor": {**COMMON, "nblocks": "1-3", "factor_out": True, "squeeze_first": True,
               "fc_actnorm": True, "imagesize": 16},
    "no logit": {**COMMON, "nblocks": "2-1", "logit_transform": False, "squeeze_first": True,
                 "actnorm": False, "imagesize": 16, "fc_end": False, "kernels": "1-3"}}


class Theirs:
    """Images `[N, C, H, W]` to z and the log-determinant, from a state dict, in NumPy."""

    def __init__(self, known, args):
        self.known, self.args = {k: np.float64(v) for k, v in known.items()}, args
        self.log_det = 0.0

    def __call__(self, x):
        scales = len(self.args["nblocks"].split("-"))
        x, out = squeezed(x) if self.args.get("squeeze_first") else x, []
        for scale in range(scales):
            x = self.scale(x, scale, scale == scales - 1)
            if self.args.get("factor_out") and scale < scales - 1:
                x, left = np.split(x, 2, axis=1)
                out.append(left)
        return np.concatenate([part.reshape(len(part), -1) for part in [*out, x]], axis=1)

    def scale(self, x, scale, last):
        logit, place, swap = scale == 0 and self.args.get("logit_transform", True), 0, False
        if logit:
            alpha = 1e-6 if self.args["data"] == "mnist" else 0.05
            s = alpha + (1 - 2 * alpha) * x
            self.log_det += total(np.log(1 - 2 * alpha) - np.log(s) - np.log(1 - s))
            x, place = np.log(s) - np.log(1 - s), 1
        blocks = int(self.args["nblocks"].split("-")[scale])
        of_end = 4 if last and self.args.get("fc_end", True) else 0
        x, place = self.norms(x, f"transforms.{scale}.chain.", place) if scale == 0 else (x, place)
        for block in range(blocks + of_end):
            name = f"transforms.{scale}.chain.{place}.nnet."
            if block >= blocks:
                x = self.halves(x, swap, lambda a: self.vector(a, name + "nnet."))
            elif logit:
                x = self.board(x, swap, name, bare=block == 0)
            else:
                bare = scale == 0 and block == 0
                x = self.halves(x, swap, lambda a: self.network(a, name, bare, conv))
            x, place = self.norms(x, f"transforms.{scale}.chain.", place + 1, block >= blocks)
            swap = not swap
        return x if last else squeezed(x)

    def norms(self, x, name, place, flat=False):
        kinds = [self.args.get("actnorm", True), self.args.get("fc_actnorm", False)]
        for whole in [True] * any(kinds) if flat else [k for k, on in enumerate(kinds) if on]:
            own = f"{name}{place}." + "fc_module." * bool(whole)
            scale, shift = (self.known[own + n].reshape(x.shape[1:] if whole else (-1, 1, 1))
                            for n in ("weight", "bias"))
            self.log_det += np.sum(np.broadcast_to(scale, x.shape[1:]))
            x, place = (x + shift) * np.exp(scale), place + 1
        return x, place

    def halves(self, x, swap, network):
        a, b = np.split(x, 2, axis=1)
        a, b = (b, a) if swap else (a, b)
        raw, shift = np.split(network(a), 2, axis=1)
        b = b * sigmoid(raw + 2) + shift
        self.log_det += total(np.log(sigmoid(raw + 2)))
        return np.concatenate([b, a] if swap else [a, b], axis=1)

    def board(self, x, swap, name, bare):
        mask = np.indices(x.shape[2:]).sum(0) % 2 == int(swap)
        raw, shift = np.split(self.network(mask * x, name, bare, conv), 2, axis=1)
        self.log_det += total(np.log(sigmoid(raw + 2)) * ~mask)
        return (x * sigmoid(raw + 2) + shift) * ~mask + mask * x

    def vector(self, a, name):
        found = self.network(a.reshape(len(a), -1), name, False, lambda x, w: x @ w.T)
        return found.reshape(len(a), -1, *a.shape[2:])

    def network(self, x, name, bare, linear):
        i, count = 0, len(self.args.get("kernels", "3-1-3").split("-"))
        for layer in range(count):
            if layer or (self.args.get("preact", True) and not bare):
                x, i = self.act(x, f"{name}{i}"), i + 1
            bias = self.known[f"{name}{i}.bias"]
            x = linear(x, self.known[f"{name}{i}.weight"]) + bias.reshape(-1, *[1] * (x.ndim - 2))
            i += 1
        return x

    def act(self, x, name):
        if self.args["act"] == "elu":
            return np.where(x > 0, x, np.expm1(x))
        return x * sigmoid(np.log1p(np.exp(self.known[name + ".beta"])) * x) / 1.1


def conv(x, weight):
    k = weight.shape[2]
    padded = np.pad(x, [(0, 0), (0, 0), (k // 2, k // 2), (k // 2, k // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight)


def squeezed(x):
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4)
    return x.reshape(n, 4 * c, h // 2, w // 2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def total(x):
    return x.reshape(len(x), -1).sum(1)


@pytest.mark.parametrize("name", MODELS)
def test_couplings(name):
    """z and log-determinant to rounding, the way back to the byte, and x again."""
    args = MODELS[name]
    kept, _ = random_state_dict(args)
    flow = flows.from_reference(kept, args, dtype="float64")
    x = np.random.RandomState(1).rand(3, *flow.event_shape)
    theirs = Theirs(kept, args)
    wanted = theirs(np.moveaxis(x, -1, 1))
    z, log_det = flow.forward_and_log_det(tf.constant(x))
    np.testing.assert_allclose(z, wanted, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(log_det, theirs.log_det, rtol=1e-11)
    np.testing.assert_allclose(flow.inverse(tf.identity(z)), x, atol=1e-8)
    back = flows.to_reference(flow, args, kept)
    assert list(back) == list(kept)
    assert all(back[key].tobytes() == kept[key].tobytes() for key in kept)


@pytest.mark.slow
def test_a_run_of_couplings(tmp_path):
    """`import` and `export` to the same bytes; what is between goes on training."""
    args = {**COMMON, "data": "mnist", "imagesize": 28, "nblocks": "1-1", "batchsize": 8}
    kept, _ = random_state_dict(args)
    namespace = Record()
    namespace.kind, namespace.fields = "argparse.Namespace", args
    run, back = f"--workdir={tmp_path / 'run'}", tmp_path / "back.pth"
    write({"state_dict": kept, "args": namespace}, tmp_path / "x.pth")
    assert main(["x", "import", f"--checkpoint={tmp_path / 'x.pth'}", run, "--data=mnist5k"]) == 0
    assert main(["x", "export", f"--checkpoint={back}", run]) == 0
    with Checkpoint(back) as checkpoint:
        found = checkpoint.content["state_dict"]
        assert list(found) == list(kept)
        assert all(np.asarray(found[key]).tobytes() == kept[key].tobytes() for key in kept)
    assert main(["x", "train", run, "--niters=2", "--n_sample_images=4"]) == 0
