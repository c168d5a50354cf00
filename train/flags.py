"""The command line: every flag, its default and its meaning, and the one frozen Settings.

Names and defaults are the reference's (dashes become underscores). Nothing else in the project
reads FLAGS.
"""

import dataclasses
import difflib
import json
import math
import os
import pathlib
import re
import sys
import textwrap

from absl import flags

from train.files import write_json
from train.idle import idle

__all__ = ["COMMANDS", "DATA", "FILES", "FINGERPRINT", "Settings", "conflicts", "define", "load",
           "parse", "save"]

COMMANDS = ("train", "eval", "sample")
TOYS = ("pinwheel", "swissroll", "8gaussians", "circles", "moons", "2spirals", "checkerboard",
        "rings")
FILES = ("folder", "array", "csv")
DATA = ("mnist5k", "digits", "photos", "mnist", "cifar10", *FILES, *TOYS)

# name: (default, help), or (default, help, allowed values). The type is the default's.
_DATA_FLAGS = {
    "data": ("mnist5k", "Data set.", DATA),
    "dataroot": ("", "Folder of images, or .npz, .npy or .csv file."),
    "imagesize": (0, "Side of the images in pixels; 0: the source's own."),
    "resize_mode": ("crop", "How a folder's images come to imagesize: crop scales the short side "
                    "and cuts the centre, resize scales both, none takes them as they are.",
                    ("crop", "resize", "none")),
    "nbits": (8, "Bits of each pixel."),
    "add_noise": (True, "Dequantise with uniform noise."),
    "val_fraction": (0.1, "Validation part of data that comes in one piece."),
    "test_fraction": (0.1, "Test part of data that comes in one piece."),
    "n_test": (10000, "Test and validation samples of a toy density."),
    "batchsize": (64, "Examples a training step, over all replicas together."),
    "val_batchsize": (200, "Examples a validation or test step."),
}
_MODEL_FLAGS = {
    "block": ("resblock", "Kind of block.", ("resblock",)),
    "coeff": (0.98, "Bound of each layer's operator norm, in (0, 1)."),
    "vnorms": ("2222", "Orders of the norms p_0, p_1, ... before each linear layer of a branch, "
               "each a digit or f for infinity; the last layer ends in p_0, which may be said "
               "again. All 2: however many layers."),
    "learn_p": (False, "Learn the orders, beginning at 2, so that the norms are small."),
    "mixed": (True, "A learned order of its own for each layer; else one a branch."),
    "p_range": ("1.5-2.5", "That learned orders are kept in."),
    "certified": (True, "Keep a proven bound of each norm below 1 where orders are not 2."),
    "n_lipschitz_iters": (0, "Power iterations a step; 0: by sn_tol."),
    "sn_tol": (1e-3, "Relative tolerance of power iteration."),
    "n_power_series": (0, "Terms of a truncated, biased series; 0: unbiased."),
    "n_dist": ("poisson", "Distribution of the number of terms.", ("poisson", "geometric")),
    "n_lambda": (2.0, "Rate of the Poisson distribution."),
    "geom_p": (0.5, "Parameter of the geometric distribution."),
    "n_samples": (1, "Draws of the number of terms that are averaged."),
    "n_probes": (1, "Probes that are averaged."),
    "probe": ("normal", "Distribution of the probes.", ("normal", "rademacher")),
    "n_exact_terms": (2, "Terms that are always there, in training."),
    "neumann_grad": (True, "Neumann gradient; else that of the series."),
    "mem_eff": (True, "Recompute activations in the backward pass; else keep them."),
    "autodiff": ("", "What a training step keeps: the input of each block (recomputed), all "
                 "activations (stored), or those of the branches and the log-determinants' "
                 "gradients (released). Empty: as mem_eff says.",
                 ("", "recomputed", "stored", "released")),
    "act": ("swish", "Activation.", ("swish", "clipswish", "elu", "lcube", "softplus", "sin",
                                     "tanh", "maxmin", "fullsort", "identity", "relu")),
    "idim": (512, "Hidden channels of the convolutions."),
    "nblocks": ("16-16-16", "Blocks of each scale; one number for vectors."),
    "squeeze_first": (False, "Squeeze the image before the first scale."),
    "factor_out": (False, "Half of the channels leave after each scale."),
    "actnorm": (True, "ActNorm of each channel after each block."),
    "fc_actnorm": (False, "ActNorm of each entry after each block."),
    "kernels": ("3-1-3", "Sizes of the convolutions of a block."),
    "logit_transform": (True, "Logit of images."),
    "alpha": (-1.0, "Of the logit; -1: 1e-6 for MNIST, else 0.05."),
    "fc_end": (True, "Fully connected blocks at the end."),
    "n_fc_blocks": (4, "How many of them."),
    "fc_idim": (128, "Their width."),
    "densenet": (False, "Branches that concatenate, in place of those of idim, kernels and dims."),
    "densenet_depth": (3, "Concatenations of a branch."),
    "densenet_growth": (172, "Channels that each adds, before its activation."),
    "learnable_concat": (True, "Learn the shares of what is passed on and what is added."),
    "preact": (True, "A block begins with its activation."),
    "first_resblock": (True, "The very first block does not."),
    "dims": ("128-128-128-128", "Hidden widths of the blocks for vectors."),
    "solver": ("anderson", "Solver of the inverse.", ("anderson", "broyden", "picard")),
    "rtol": (0.0, "Its relative tolerance; 0: from the float type."),
    "atol": (0.0, "Its absolute tolerance; 0: from the float type."),
    "max_solver_steps": (1000, "Its most steps."),
}
_TRAINING_FLAGS = {
    "workdir": ("", "Folder of the run; empty: runs/<data>."),
    "seed": (0, "Of everything random."),
    "task": ("density", "What to train for.", ("density",)),
    "optimizer": ("adam", "Optimizer.", ("adam", "adamw", "adamax", "rmsprop", "sgd")),
    "lr": (1e-3, "Learning rate."),
    "lr_decay": (False, "Let the learning rate fall to zero along a cosine after the warm-up; "
                 "needs niters or nepochs."),
    "beta_2": (0.99, "Second moment decay of Adam."),
    "wd": (0.0, "Weight decay."),
    "warmup_iters": (1000, "Steps over which the learning rate rises."),
    "clip": (1.0, "Global norm that gradients are clipped to; 0: not."),
    "ema_val": (True, "Evaluate with averaged weights."),
    "ema_decay": (0.999, "Decay of the average."),
    "update_freq": (1, "Batches whose gradients are accumulated for a step, each of batchsize."),
    "nepochs": (1000, "Passes over the training part."),
    "niters": (0, "Steps; 0: as nepochs says."),
    "max_minutes": (0.0, "Stop after so many minutes of training, resumed runs included; 0: no "
                    "limit."),
    "skip_nonfinite": (0, "Steps in a row whose loss or gradient may be not finite: each is left "
                       "out; one more ends the run."),
    "val_every": (0, "Steps between validations, each with a checkpoint; 0: an epoch."),
    "save_every": (0, "Steps between further checkpoints; 0: none."),
    "keep_checkpoints": (3, "How many of the last checkpoints are kept."),
    "strategy": ("auto", "What trains: one device, a replica on each GPU (mirrored), or several "
                 "processes (multiworker). auto: multiworker where TF_CONFIG or Slurm says so, "
                 "else mirrored where there are several GPUs.",
                 ("auto", "one", "mirrored", "multiworker")),
    "logical_cpus": (1, "CPU devices that stand for GPUs, to try a layout without them."),
}
_EVALUATION_FLAGS = {
    "checkpoint": ("best", "Which weights to evaluate and to sample from.", ("best", "last")),
    "n_exact_terms_eval": (20, "Terms that are always there, in evaluation."),
    "eval_probes": (3, "Passes over the test part with fresh probes."),
    "exact": (False, "Exact log-determinants, for few dimensions."),
    "n_sample_images": (64, "Samples to draw."),
    "temperature": (1.0, "Standard deviation of the latent in samples."),
}
_GROUPS: dict[str, dict[str, tuple]] = {
    "Data": _DATA_FLAGS, "Model": _MODEL_FLAGS, "Training": _TRAINING_FLAGS,
    "Evaluation and samples": _EVALUATION_FLAGS}
_ALL = {name: spec for group in _GROUPS.values() for name, spec in group.items()}

# What a run may not change when it is continued: the data it sees and the model it trains.
_FIXED = tuple(name for name in (*_DATA_FLAGS, *_MODEL_FLAGS) if name not in (
    "dataroot", "val_batchsize", "n_test", "solver", "rtol", "atol", "max_solver_steps",
    "autodiff", "mem_eff")) + ("seed", "optimizer", "ema_val")

FINGERPRINT = "dataroot_fingerprint"

Settings = dataclasses.make_dataclass(
    "Settings", [("command", str), *((name, type(spec[0])) for name, spec in _ALL.items())],
    frozen=True)
Settings.__doc__ = """One frozen field for each flag, and `command`; see `_ALL`."""


def define(flag_values=flags.FLAGS):
    """Defines every flag, grouped for --help."""
    kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float,
             str: flags.DEFINE_string}
    for group, specs in _GROUPS.items():
        for name, (default, text, *allowed) in specs.items():
            kwargs = {"flag_values": flag_values, "module_name": group}
            if allowed:
                flags.DEFINE_enum(name, default, [*allowed[0]], text, **kwargs)
            else:
                kinds[type(default)](name, default, text, **kwargs)


def parse(argv):
    """Command line to `Settings`.

    `eval` and `sample` begin from the settings that the workdir was trained with; flags that
    are given override them.

    Args:
      argv: as `sys.argv`: program, then flags and at most one command.

    Raises:
      ValueError: unknown flag or command, bad value, missing flagfile; one line.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow the command
    define(values)
    try:
        rest = values(argv)[1:]
    except flags.Error as error:
        raise ValueError(_said(error)) from None
    command = rest[0] if rest else "train"
    if command not in COMMANDS or len(rest) > 1:
        raise ValueError(f"the command must be one of {', '.join(COMMANDS)}. Received: "
                         f"{_not_commands(rest, argv)}")
    given = {name: values[name].value for name in _ALL if values[name].present}
    given.update({name: os.path.expanduser(given[name])  # a shell leaves --workdir=~/x alone
                  for name in ("workdir", "dataroot") if name in given})
    settings = {name: spec[0] for name, spec in _ALL.items()}
    if command != "train":
        workdir = pathlib.Path(given.get("workdir") or f"runs/{given.get('data', 'mnist5k')}")
        settings.update(_saved(workdir))
    settings.update(given)
    settings["workdir"] = settings["workdir"] or f"runs/{settings['data']}"
    settings = Settings(command=command, **settings)
    _validate(settings)
    for line in idle(settings, argv, TOYS):
        print(f"warning: {line}", file=sys.stderr)
    return settings


def _said(error):
    """What is wrong with the flags, in one line."""
    text = " ".join(str(error).split())
    if "open flagfile" not in text:
        return text
    return (f"--flagfile must be a file that can be read: {text.split('flagfile: ')[-1]}. Paths, "
            "those in flagfiles too, are seen from the folder in which the command runs, here "
            f"{os.getcwd()}")


def _not_commands(rest, argv):
    """What was given as commands, and what was meant perhaps."""
    received = textwrap.shorten(" ".join(rest), 100, placeholder=" ...")
    if received.startswith("\ufeff"):
        return (f"{received[1:]}, in a flagfile that begins with a byte order mark. Save it in "
                "UTF-8 without one")
    if not set(rest) <= set(argv):
        return f"{received}, in a flagfile, each line of which must be --name=value"
    near = difflib.get_close_matches(rest[0], COMMANDS, 1)
    return received + (f". Did you mean {near[0]}?" if near else "")


def usage():
    """The text of --help: the commands and all flags with their defaults."""
    lines = ["tfresflow [train|eval|sample] --flagfile=configs/X.cfg --workdir=DIR",
             "(or python -m tfresflow, or python -m train.main)", ""]
    for group, specs in _GROUPS.items():
        lines.append(f"{group}:")
        for name, (default, text, *allowed) in specs.items():
            choices = f" One of: {', '.join(filter(None, allowed[0]))}." if allowed else ""
            shown = {True: f"--{name}", False: f"--no{name}"}.get(
                default if isinstance(default, bool) else None, f"--{name}={default}")
            lines.append(f"  {shown}\n      {text}{choices}")
    return "\n".join(lines)


def save(settings, workdir, fingerprint):
    """Writes settings.json beside the run; `fingerprint`: of the files in --dataroot."""
    write_json({**dataclasses.asdict(settings), FINGERPRINT: fingerprint},
               pathlib.Path(workdir) / "settings.json")


def load(workdir):
    """The settings that a workdir was trained with, or None.

    Raises:
      ValueError: the file is damaged.
    """
    path = pathlib.Path(workdir) / "settings.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        if not isinstance(saved, dict):
            raise ValueError("it is not a table of settings")
        for name, value in saved.items():
            if name in _ALL and not _fits(value, *_ALL[name]):
                raise ValueError(f"{name} cannot be {value!r}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). Remove it and give the training command "
                         "again, which writes it anew") from None
    return saved


def _fits(value, default, text, allowed=None):
    kinds = (int, float) if isinstance(default, float) else (type(default),)
    return type(value) in kinds and (allowed is None or value in allowed)


def conflicts(settings, workdir, fingerprint=None):
    """Raises if the workdir belongs to a run with other data or another model.

    Args:
      settings: those of now.
      workdir: a folder, or none yet.
      fingerprint: of the files in --dataroot, to be the same as well.

    Raises:
      ValueError: one line that names each flag that differs and both values.
    """
    old, new = load(workdir), dataclasses.asdict(settings)
    if old is None:
        return
    differing = [f"{name} (there {old[name]!r}, here {new[name]!r})"
                 for name in _FIXED if name in old and old[name] != new[name]]
    if fingerprint is not None and old.get(FINGERPRINT, fingerprint) != fingerprint:
        differing.append(f"other files in dataroot (there {old.get('dataroot')}, here "
                         f"{settings.dataroot})")
    if differing:
        raise ValueError(f"--workdir={workdir} holds a run with other settings: "
                         f"{', '.join(differing)}. Choose another --workdir or these settings")


def _saved(workdir):
    saved = load(workdir)
    if saved is None:
        raise ValueError(f"--workdir={workdir} holds no run (no settings.json there): train first")
    return {name: value for name, value in saved.items() if name in _ALL} | {
        "workdir": str(workdir)}


def _validate(settings):
    positive = ("nbits batchsize val_batchsize sn_tol n_lambda n_samples n_probes idim "
                "n_fc_blocks fc_idim max_solver_steps lr update_freq nepochs eval_probes "
                "n_sample_images keep_checkpoints logical_cpus densenet_depth "
                "densenet_growth").split()
    not_negative = ("imagesize n_lipschitz_iters n_power_series n_exact_terms n_exact_terms_eval "
                    "rtol atol wd warmup_iters clip niters max_minutes val_every save_every seed "
                    "temperature skip_nonfinite").split()
    inside = ("coeff", "geom_p", "beta_2", "ema_decay", "val_fraction", "test_fraction")
    rules = [*((name, lambda v: v > 0, "positive") for name in positive),
             *((name, lambda v: v >= 0, "at least 0") for name in not_negative),
             *((name, lambda v: 0 < v < 1, "in (0, 1)") for name in inside),
             ("nbits", lambda v: v <= 8, "at most 8"),
             ("n_test", lambda v: v >= 2, "at least 2: a standard error needs two"),
             ("seed", lambda v: v < 2 ** 31, "less than 2^31"),
             ("alpha", lambda v: v == -1 or 0 < v < 0.5, "in (0, 0.5), or -1"),
             ("vnorms", lambda v: v and set(v) <= set("123456789f"),
              "digits, or f for infinity, as 2222"),
             ("p_range", lambda v: len(span(v)) == 2 and 1 < span(v)[0] < span(v)[1] < math.inf,
              "two numbers above 1 with a dash between, the lower one first, as 1.5-2.5"),
             ("workdir", lambda v: not re.search(r"\\|\[.*\]", os.path.normpath(v)),
              "a path without [...] and backslashes, which TensorFlow takes for patterns when it "
              "looks for checkpoints"),
             *((name, numbers, "positive whole numbers with dashes between, as 16-16-16")
               for name in ("nblocks", "kernels", "dims"))]
    for name, holds, rule in rules:
        value = getattr(settings, name)
        if (isinstance(value, float) and not math.isfinite(value)) or not holds(value):
            raise ValueError(f"--{name} must be {rule}. Received: --{name}={value}")
    if settings.data in FILES and not settings.dataroot:
        raise ValueError(f"--dataroot must name the file or folder for --data={settings.data}. "
                         "Received: --dataroot=")
    if settings.dataroot and settings.data not in FILES:
        raise ValueError(f"--dataroot must come with --data=folder, array or csv: nothing reads it "
                         f"with --data={settings.data}. Received: --dataroot={settings.dataroot}")
    if not settings.mem_eff and settings.autodiff not in ("", "stored"):
        raise ValueError("--autodiff must be stored, or not given, with --nomem_eff. "
                         f"Received: --autodiff={settings.autodiff}")


def span(text):
    """`"1.5-2.5"` to `(1.5, 2.5)`, or `()` where it is not numbers."""
    try:
        return tuple(map(float, text.split("-")))
    except ValueError:
        return ()


def numbers(text):
    """`"16-16-16"` to `(16, 16, 16)`, or `()` where it is not that."""
    parts = text.split("-")
    return tuple(map(int, parts)) if all(p.isdecimal() and int(p) > 0 for p in parts) else ()
