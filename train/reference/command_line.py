"""Command lines of the reference's scripts: the same flags here, or a line that says what else."""

import dataclasses

from train.settings import DATA, GROUPS

__all__ = ["translated"]

_BOOLEANS = {f.name for group in GROUPS for f in dataclasses.fields(group) if f.type is bool}
_KNOWN = {f.name for group in GROUPS for f in dataclasses.fields(group)}
_RENAMED = {"save": "workdir", "batch_size": "batchsize", "test_batch_size": "n_test",
            "weight_decay": "wd", "val_freq": "val_every"}
_IDLE = {"nworkers": "data is read in threads", "print_freq": "progress is told by time",
         "log_freq": "progress is told by time", "vis_freq": "samples come with validations",
         "viz_freq": "samples come with validations", "gpu": "see --strategy",
         "var_reduc_lr": "it has none there either", "begin_epoch": "a run knows where it is",
         "rcrop_pad_mode": "images are not cropped at random",
         "padding_dist": "there are no channels of noise"}
# Values that change nothing, and what to use in place of others.
_INSTEAD = {
    "padding": ("0", "channels of noise beside those of an image have no use in evaluation; "
                     "--dequantise=variational learns the noise within the levels"),
    "quadratic": ("False", "put `bijectors.InvertibleConv1x1` into a chain of your own"),
    "batchnorm": ("False", "a block whose output depends on the other rows has no density of one "
                           "example; --actnorm or --fc_actnorm normalises"),
    "dropout": ("0", "a branch that is random in training is another function in each term of the "
                     "log-determinant; --wd or fewer blocks keep a model from fitting noise"),
    "fc": ("False", "--fc_end ends an image flow with fully connected blocks, and tables have them "
                    "throughout (--data=csv or array)"),
    "scale_dim": ("False", "--hybrid_weight says how much bits/dim count"),
    "scheduler": ("False", "--lr_decay lets the learning rate fall"),
    "annealing_iters": ("0", "--warmup_iters begins slowly; the log-determinant counts in full"),
    "resume": ("None", "`import --checkpoint=FILE.pth --workdir=DIR` makes a run of a checkpoint, "
                       "and `train --workdir=DIR` goes on with it"),
    "arch": ("iresnet", "--block=coupling trains affine couplings"),
    "brute_force": ("False", "in the plane, log-determinants are exact in evaluation anyway"),
    "exact_trace": ("False", "--exact evaluates exactly; --n_power_series truncates the series")}


def translated(argv):
    """`(argv, warnings)` with flags as they are named and written here.

    `--fc-end False` becomes `--fc_end=False`, `--save DIR` becomes `--workdir DIR`; flags that the
    reference has and this library does not are left out if they change nothing.

    Args:
      argv: as `sys.argv`.

    Raises:
      ValueError: one line, what to use in place of a flag.

    Example:
      >>> from train.reference.command_line import translated
      >>> translated(["x", "--fc-end", "False", "--save", "runs/a", "--padding", "0"])
      (['x', '--fc_end=False', '--workdir', 'runs/a'], [])
    """
    found, warnings, rest = list(argv[:1]), [], list(argv[1:])
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") or word == "--":
            found.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        name = _RENAMED.get(name, name)
        if name in _IDLE or name in _INSTEAD:
            value = value if equals or not rest or rest[0].startswith("--") else rest.pop(0)
            warnings += _left_out(name, value)
        elif name in _BOOLEANS and rest[:1] in (["True"], ["False"]):
            found.append(f"--{name}={rest.pop(0)}")
        else:
            _check_data(name, value if equals else "".join(rest[:1]))
            found.append(f"--{name}{equals}{value}" if _is_known(name) else word)
    return found, warnings


def _is_known(name):
    return name in _KNOWN or name.removeprefix("no") in _BOOLEANS


def _left_out(name, value):
    """A warning about a flag that changes nothing, if any is needed."""
    if name in _IDLE:
        return [f"--{name} has no effect: {_IDLE[name]}"]
    only, why = _INSTEAD[name]
    same = value == only or (only == "0" and _is_zero(value))
    if not same:
        raise ValueError(f"--{name} must be {only} or not given: {why}. "
                         f"Received: --{name}={value or True}")
    return []


def _is_zero(text):
    try:
        return float(text) == 0
    except ValueError:
        return False


def _check_data(name, value):
    if name == "data" and value == "svhn":
        raise ValueError(f"--data must be one of {', '.join(DATA)}: of {value}, give the images by "
                         "--data=folder or --data=array and --dataroot. "
                         f"Received: --data={value}")
