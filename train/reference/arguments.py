"""Arguments of the reference's scripts as settings of ours."""

from train.reference.pickles import Record
from train.reference.reading import Checkpoint
from train.settings import DATA, Settings, written

__all__ = ["arguments_of", "settings_of"]

_SAME = ("nbits coeff learn_p mixed sn_tol n_dist n_samples n_exact_terms neumann_grad mem_eff act "
         "idim squeeze_first factor_out actnorm fc_actnorm kernels logit_transform fc_end fc_idim "
         "preact first_resblock add_noise batchsize lr warmup_iters nepochs niters val_batchsize "
         "seed optimizer ema_val update_freq dims vnorms imagesize block").split()
_RENAMED = {"batch_size": "batchsize", "test_batch_size": "n_test"}
_LEVELS = {"celeba_5bit": 5}
_FLIPPED = "cifar10", "celebahq", "celeba_5bit"  # what the reference mirrors at random
# What the script for the plane has built in.
_PLANE = {"warmup_iters": 0, "ema_val": False, "clip": 0.0, "beta_2": 0.999, "lr": 1e-3,
          "neumann_grad": False, "mem_eff": False, "preact": True, "n_dist": "geometric"}


def arguments_of(content, path):
    """The script's arguments, a dictionary, of what a checkpoint holds.

    Raises:
      ValueError: it is none of the reference.
    """
    args = content.get("args") if isinstance(content, dict) else None
    if not isinstance(args, Record) or not isinstance(content.get("state_dict"), dict):
        raise ValueError(f"{path} must be a checkpoint of train_img.py or train_toy.py of "
                         "rtqichen/residual-flows, with state_dict and args. There are none in it")
    return args.fields


def settings_of(path, given):
    """`{flag: value}`, as files have them, of a checkpoint.

    Args:
      path: of the checkpoint.
      given: those on the command line, which come first.

    Raises:
      ValueError or OSError: it is no checkpoint of the reference, or its data has no loader here.
    """
    with Checkpoint(path) as checkpoint:
        args = arguments_of(checkpoint.content, path)
    found = _settings(args)
    data = given.get("data", found["data"])
    if data not in DATA:
        raise ValueError(f"--data must be given: the checkpoint is of {data}, which has no loader "
                         "here. Use --data=folder or --data=array with --dataroot")
    return found


def _settings(args):
    of_plane = "dims" in args
    args = (_PLANE if of_plane else {}) | {_RENAMED.get(k, k): v for k, v in args.items()}
    found = {name: args[name] for name in _SAME if args.get(name) is not None}
    found |= {name: args[name] for name in ("clip", "beta_2", "n_test") if name in args}
    found |= {"data": args["data"], "nblocks": str(args["nblocks"]), "wd": _decay(args),
              "n_lipschitz_iters": args.get("n_lipschitz_iters") or 0,
              "n_power_series": args.get("n_power_series") or 0, "probe": "normal",
              "certified": False, "p_range": "1.000001-5.0", "reference_layout": True}
    if of_plane:
        found["vnorms"] = args["vnorms"][:len(args["dims"].split("-")) + 2]
    else:
        # The script sets it where the data has another size.
        found["imagesize"] = side = args.get("imagesize", 32)
        found["random_flip"] = args["data"] in _FLIPPED
        found["nbits"] = _LEVELS.get(args["data"], args["nbits"] if args["data"] == "celebahq"
                                     else 8)
        found["alpha"] = 1e-6 if args["data"] == "mnist" else 0.05
        side //= 2 if args.get("squeeze_first") else 1
        scales = args["nblocks"].split("-")[:max(1, side.bit_length() - 2)]
        found["nblocks"] = "-".join(scales)
    kinds = {name: type(value) for name, value in written(Settings()).items()}
    return {name: kinds[name](value) for name, value in found.items()}


def _decay(args):
    """Of the weights; the reference's Adam computes a decay, and does not subtract it."""
    optimizer = args.get("optimizer", "adam")
    return 0.0 if optimizer == "adam" else float(args.get("wd", args.get("weight_decay", 0.0)))
