"""The arguments of the reference's training scripts, and the architecture that they ask for."""

import math

from bijectors.coupling import Coupling
from bijectors.flows.image import image_flow
from bijectors.flows.reference_orders import RANGE
from bijectors.flows.tabular import tabular_flow
from bijectors.flows.toy import toy_flow
from bijectors.residual import InvertibleResidual
from tfresflow import layers

__all__ = ["architecture", "read_args"]

# Defaults of those that say what a model is: of train_img.py, and of train_toy.py.
_IMAGE = {"data": "cifar10", "imagesize": 32, "block": "resblock", "coeff": 0.98, "vnorms": "2222",
          "n_lipschitz_iters": None, "sn_tol": 1e-3, "learn_p": False, "factor_out": False,
          "n_samples": 1, "act": "swish", "idim": 512, "nblocks": "16-16-16",
          "squeeze_first": False, "actnorm": True, "fc_actnorm": False, "batchnorm": False,
          "dropout": 0.0, "fc": False, "kernels": "3-1-3", "logit_transform": True,
          "quadratic": False, "fc_end": True, "fc_idim": 128, "preact": True, "padding": 0,
          "first_resblock": True, "task": "density"}
_PLANE = {"arch": "iresnet", "coeff": 0.9, "vnorms": "222222", "n_lipschitz_iters": 5,
          "rtol": None, "learn_p": False, "mixed": True, "dims": "128-128-128-128", "act": "swish",
          "nblocks": 100, "actnorm": False, "batchnorm": False, "n_samples": 1}
_BLOCKS = {"resblock": InvertibleResidual, "coupling": Coupling}
_REFUSED = {
    "arch": ("iresnet", "the script gives its couplings no network, and cannot build them"),
    "task": ("density", "its heads see each scale after the squeeze, the last one after the fully "
                        "connected blocks, and have ActNorms; here they see it before, and have "
                        "LayerNormalizations. Its images of CIFAR-10 have no logit. Train a model "
                        "with --task"),
    "quadratic": (False, "there is no such layer in these flows; build one of "
                         "`bijectors.InvertibleConv1x1`"),
    "batchnorm": (False, "statistics of a batch make no function of one example; use ActNorms"),
    "dropout": (0, "what is random in a branch makes no invertible function"),
    "fc": (False, "fully connected blocks stand at the end alone, fc_end"),
    "densenet": (False, "i-DenseNet's published code bounds concatenations by lip_coeff and begins "
                        "fully connected branches with a layer of 64; train one with --densenet"),
    "padding": (0, "channels of noise have no place in the flow of an image"),
}


def read_args(args):
    """All arguments that say what a model is, a dictionary: those given, and the defaults.

    Args:
      args: `argparse.Namespace` of the reference's script, or a dictionary.

    Raises:
      ValueError: naming one whose value this library has no model for.
    """
    given = dict(args) if isinstance(args, dict) else dict(vars(args))
    args = (_PLANE if "dims" in given else _IMAGE) | given
    for name, (only, why) in _REFUSED.items():
        if args.get(name, only) != only:
            raise ValueError(f"`args` must have {name}={only}: {why}. "
                             f"Received: {name}={args[name]}")
    if args["act"] in ("maxmin", "selu"):
        raise ValueError("`args` must have another act: the order of the units differs, or the "
                         f"slope is above 1. Received: act={args['act']}")
    scales = _scales(args)
    if scales and len(scales) == 1 and args["first_resblock"] and args["preact"]:
        raise ValueError("`args` must have several scales: with one, the reference's "
                         f"first_resblock has no effect. Received: nblocks={args['nblocks']}")
    return args


def architecture(args, **kwargs):
    """The flow, with new weights, that the reference builds from its `args`.

    Args:
      args: as `read_args` gives it.
      **kwargs: other arguments of `image_flow` or `toy_flow`.
    """
    common = {"coeff": args["coeff"], "act": args["act"], "certified": False,
              "power_iteration": _power_iteration(args), **kwargs}
    if "dims" in args:
        dims = _sizes(args["dims"])
        whole = tabular_flow if args["actnorm"] else toy_flow
        return whole(2, nblocks=args["nblocks"], dims=dims, actnorm=args["actnorm"], preact=True,
                     orders=_orders(args, len(dims) + 1), **common)
    kernels = _sizes(args["kernels"])
    same = ("idim", "squeeze_first", "factor_out", "fc_end", "fc_idim", "actnorm", "fc_actnorm",
            "preact", "first_resblock")
    return image_flow(_event_shape(args), nblocks=_scales(args), kernels=kernels,
                      logit_alpha=_alpha(args), orders=_orders(args, len(kernels)),
                      channels_first=True, block=_BLOCKS[args["block"]],
                      **{name: args[name] for name in same}, **common)


def _sizes(text):
    return tuple(map(int, text.split("-")))


def _event_shape(args):
    side = args["imagesize"]  # the script sets it where the data has another one
    return side, side, 1 if args["data"] == "mnist" else 3


def _scales(args):
    """Blocks of each scale, of as many scales as the image has room for; None of vectors."""
    if "dims" in args:
        return None
    side = _event_shape(args)[0] // (2 if args["squeeze_first"] else 1)
    return _sizes(args["nblocks"])[:max(1, side.bit_length() - 2)]


def _alpha(args):
    if not args["logit_transform"]:
        return None
    return 1e-6 if args["data"] == "mnist" else 0.05


def _orders(args, count):
    if args.get("block") == "coupling":
        return 2  # of no layer
    if args["learn_p"]:
        order = layers.LearnedOrder(*RANGE)
        return [order] * count if args.get("mixed", True) else order
    orders = [math.inf if p == "f" else float(p) for p in args["vnorms"]]
    if len(orders) != count + 1 and not ("dims" in args and len(orders) > count):
        raise ValueError(f"`args` must have {count + 1} orders. Received: vnorms={args['vnorms']}")
    if orders[0] != orders[count]:
        raise ValueError("`args` must have vnorms that end as they begin, or a branch is no "
                         f"contraction. Received: vnorms={args['vnorms']}")
    return 2 if set(orders[:count]) == {2.0} else orders[:count]


def _power_iteration(args):
    tolerance = args["rtol"] if "dims" in args else args["sn_tol"]
    return layers.PowerIteration(args["n_lipschitz_iters"], **(
        {"rtol": tolerance} if tolerance else {}))
