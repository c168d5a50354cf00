"""Every flag of the command line, its default and its meaning: one frozen, typed object.

Names and defaults are the reference's (dashes become underscores).
"""

import dataclasses
import math

from train.rules import (ALPHA, AT_LEAST_TWO, BITS, FRACTION, NOT_NEGATIVE, ORDERS, PATH, POSITIVE,
                         SAMPLE_SEED, SEED, SIZES, SPAN, Kind, Rule, flag)
from train.sampling.flags import SamplingFlags, together

__all__ = ["COMMANDS", "DATA", "FILES", "FIXED", "GROUPS", "LABELLED", "ON_DISK", "TOYS",
           "SamplingFlags", "Settings", "TrainingFlags", "check", "read", "wants_labels", "written"]

COMMANDS = ("train", "eval", "sample", "ood", "import", "export")
TOYS = ("pinwheel", "swissroll", "8gaussians", "circles", "moons", "2spirals", "checkerboard",
        "rings")
FILES = ("folder", "array", "csv", "tfrecords")
# Data sets of the paper whose files somebody has.
_PUBLISHED = ("celebahq", "celeba_5bit", "imagenet32", "imagenet64")
ON_DISK = (*FILES, *_PUBLISHED)
LABELLED = ("mnist5k", "digits", "mnist", "cifar10", "folder", "array", "csv")
DATA = ("mnist5k", "digits", "photos", "mnist", "cifar10", *ON_DISK, *TOYS)


@dataclasses.dataclass(frozen=True)
class DataFlags:
    """Data."""

    data: str = flag("mnist5k", "Data set.", allowed=DATA)
    dataroot: str = flag("", "Folder of images, or of files of arrays or TFRecords; or one .npz, "
                         ".npy, .pth, .tfrecords or .csv file.")
    imagesize: int = flag(0, "Side of the images in pixels; 0: the source's own.", NOT_NEGATIVE)
    resize_mode: str = flag(
        "crop", "How a folder's images come to imagesize: crop scales the short side and cuts the "
        "centre, resize scales both, none takes them as they are.",
        allowed=("crop", "resize", "none"))
    nbits: int = flag(8, "Bits of each colour value of a pixel.", BITS)
    random_flip: bool = flag(
        False, "Mirror each training image, left to right, with probability 1/2.")
    add_noise: bool = flag(True, "Dequantise with uniform noise.")
    dequantise: str = flag(
        "uniform", "Noise within the levels of images: uniform, with the data; or variational: of "
        "the model, which learns it.", allowed=("uniform", "variational"))
    val_fraction: float = flag(0.1, "Validation part of data that has none, a fraction.", FRACTION)
    test_fraction: float = flag(0.1, "Test part of data in one piece, a fraction.", FRACTION)
    n_test: int = flag(
        10000, "Samples of a toy density for validation, and as many for the test; with "
        "--task=sampling, of a validation.", AT_LEAST_TWO)
    batchsize: int = flag(64, "Examples a training step, over all replicas together.", POSITIVE)
    val_batchsize: int = flag(200, "Examples a validation or test step.", POSITIVE)
    conditional: bool = flag(
        False, "Learn p(x | c): c is the label. Of mnist5k, digits, mnist and cifar10 it is known; "
        "of a folder, images of a class are in a folder of their own; of others, see labels.")
    labels: str = flag(
        "", "Where whole numbers are that are labels: of csv the name of a column; of an array a "
        ".npy, .npz or .pth file, or empty, if they are beside the examples, as y or y_train and "
        "y_test.")
    context_columns: str = flag(
        "", "Names of columns of a table, with commas between, that are the context of the others.")


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Model."""

    block: str = flag(
        "resblock", "Kind of block; implicit: a resblock and an inverse in turns; coupling: the "
        "affine couplings of RealNVP, for comparison.",
        allowed=("resblock", "monotone", "implicit", "coupling"))
    coeff: float = flag(0.98, "Bound of each layer's operator norm, in (0, 1).", FRACTION)
    vnorms: tuple[float, ...] = flag(
        (2.0, 2.0, 2.0, 2.0), "Orders p_0, p_1, ... of the norms before each linear layer of a "
        "branch, each a digit or f for infinity; the last layer ends in p_0, which may be "
        "repeated. If all are 2, their number does not matter.", ORDERS)
    learn_p: bool = flag(False, "Learn the orders, beginning at 2, so that the norms are small.")
    mixed: bool = flag(True, "A learned order of its own for each layer; else one a branch.")
    p_range: tuple[float, float] = flag((1.5, 2.5), "Range of the learned orders.", SPAN)
    certified: bool = flag(True, "Keep a proven bound of each norm below 1 where orders are not 2.")
    n_lipschitz_iters: int = flag(
        0, "Power iterations after each training step; 0: until sn_tol is met.", NOT_NEGATIVE)
    sn_tol: float = flag(0.001, "Relative tolerance of power iteration.", POSITIVE)
    n_power_series: int = flag(0, "Terms of a truncated, biased series; 0: unbiased.", NOT_NEGATIVE)
    n_dist: str = flag(
        "adaptive", "Number of terms: until they are small, or n_exact_terms and this many more.",
        allowed=("adaptive", "poisson", "geometric"))
    threshold: float = flag(
        0.05, "Part of its length below which adaptive terms are left to chance.", FRACTION)
    n_lambda: float = flag(2.0, "Rate of the Poisson distribution.", POSITIVE)
    geom_p: float = flag(0.5, "Probability to stop, of the geometric distribution.", FRACTION)
    n_samples: int = flag(1, "Draws of the number of terms that are averaged.", POSITIVE)
    n_probes: int = flag(1, "Random vectors (probes) of the trace estimate, averaged.", POSITIVE)
    probe: str = flag("orthogonal", "Signs, between short rows orthogonal or not; or normal.",
                      allowed=("orthogonal", "rademacher", "normal"))
    n_exact_terms: int = flag(2, "Terms that are always computed, in training.", NOT_NEGATIVE)
    neumann_grad: bool = flag(True, "Neumann gradient; else that of the series.")
    mem_eff: bool = flag(True, "Recompute activations in the backward pass; else keep them.")
    autodiff: str = flag(
        "", "What a training step keeps: the input of each block (recomputed), all activations "
        "(stored), those of the branches and the log-determinants' gradients (released), the "
        "inputs of a few blocks (checkpointed), the output of the flow (reversible), its input "
        "(moonwalk, moonwalk_reversible; memory_poor, projected: for comparison). Empty: as "
        "mem_eff says.",
        allowed=("", "recomputed", "stored", "released", "checkpointed", "reversible", "moonwalk",
                 "moonwalk_reversible", "memory_poor", "projected"))
    act: str = flag(
        "swish", "Activation.",
        allowed=("swish", "clipswish", "pila", "cpila", "elu", "lcube", "softplus", "sin", "tanh",
                 "maxmin", "fullsort", "identity", "relu"))
    frequency: float = flag(
        0.0, "Where w of f(w x) / w begins, of swish, sin and tanh, and is learned; 0: 0.97 of "
        "swish, and none of the others.", NOT_NEGATIVE)
    idim: int = flag(512, "Hidden channels of the convolutions.", POSITIVE)
    nblocks: tuple[int, ...] = flag(
        (16, 16, 16), "Blocks of each scale; one number for vectors.", SIZES)
    squeeze_first: bool = flag(False, "Squeeze the image before the first scale.")
    factor_out: bool = flag(
        False, "After each scale but the last, half of the channels go to the latent as they are.")
    actnorm: bool = flag(True, "ActNorm of each channel after each block.")
    fc_actnorm: bool = flag(False, "ActNorm of each entry after each block.")
    kernels: tuple[int, ...] = flag((3, 1, 3), "Sizes of the convolutions of a block.", SIZES)
    logit_transform: bool = flag(True, "Apply a logit to images first.")
    alpha: float = flag(-1.0, "alpha of the logit; -1: 1e-6 for MNIST, else 0.05.", ALPHA)
    fc_end: bool = flag(True, "Fully connected blocks at the end of an image flow.")
    n_fc_blocks: int = flag(4, "Number of fully connected blocks at the end.", POSITIVE)
    fc_idim: int = flag(128, "Width of the fully connected blocks at the end.", POSITIVE)
    densenet: bool = flag(
        False, "i-DenseNet branches, which ignore idim, kernels and dims.")
    densenet_depth: int = flag(3, "Concatenations in an i-DenseNet branch.", POSITIVE)
    densenet_growth: int = flag(172, "Channels of each, before its activation.", POSITIVE)
    learnable_concat: bool = flag(True, "Learn the weights of the two parts of a concatenation.")
    dequantise_blocks: int = flag(
        2, "Residual blocks of the variational noise; 0: each pixel by itself.", NOT_NEGATIVE)
    dequantise_idim: int = flag(32, "Hidden channels of these blocks.", POSITIVE)
    preact: bool = flag(True, "In image flows, a block begins with an activation.")
    first_resblock: bool = flag(True, "The very first block begins without, after an ActNorm.")
    cdim: int = flag(256, "Width of the classifier's head on each scale.", POSITIVE)
    reference_layout: bool = flag(
        False, "Order channels and latents as the PyTorch reference does; of vectors, begin with "
        "an ActNorm, and branches with an activation. For imported checkpoints.")
    dims: tuple[int, ...] = flag(
        (128, 128, 128, 128), "Hidden widths of the blocks for vectors.", SIZES)
    solver: str = flag(
        "anderson", "Solver of the inverse.", allowed=("anderson", "broyden", "newton", "picard"))
    rtol: float = flag(0.0, "Relative tolerance of the solver; 0: by the float type.", NOT_NEGATIVE)
    atol: float = flag(0.0, "Absolute tolerance of the solver; 0: by the float type.", NOT_NEGATIVE)
    max_solver_steps: int = flag(1000, "Most steps of the solver.", POSITIVE)


@dataclasses.dataclass(frozen=True)
class TrainingFlags:
    """Training."""

    workdir: str = flag("", "Folder of the run; empty: runs/<data>, runs/<target>.", PATH)
    seed: int = flag(0, "Seed of all that is random, of samples unless sample_seed is given.", SEED)
    task: str = flag(
        "density", "What to train for: a density, classes, or hybrid, both, of data with labels, "
        "as conditional needs them; sampling: no data, but samples of --target.",
        allowed=("density", "classification", "hybrid", "sampling"))
    hybrid_weight: float = flag(
        1.0, "With --task=hybrid, of bits/dim beside the cross-entropy in nats.", POSITIVE)
    optimizer: str = flag(
        "adam", "Optimizer.", allowed=("adam", "adamw", "adamax", "rmsprop", "sgd"))
    lr: float = flag(0.001, "Learning rate.", POSITIVE)
    lr_decay: bool = flag(
        False, "Let the learning rate fall along a cosine after the warm-up, to zero at the end of "
        "niters or nepochs.")
    beta_2: float = flag(0.99, "Second moment decay of Adam.", FRACTION)
    wd: float = flag(0.0, "Weight decay.", NOT_NEGATIVE)
    warmup_iters: int = flag(1000, "Steps over which the learning rate rises.", NOT_NEGATIVE)
    clip: float = flag(1.0, "Global norm that gradients are clipped to; 0: not.", NOT_NEGATIVE)
    ema_val: bool = flag(True, "Evaluate with averaged weights.")
    ema_decay: float = flag(0.999, "Decay of the average.", FRACTION)
    update_freq: int = flag(
        1, "Batches whose gradients are accumulated for a step, each of batchsize.", POSITIVE)
    nepochs: int = flag(1000, "Passes over the training part.", POSITIVE)
    niters: int = flag(0, "Training steps, in place of nepochs; 0: nepochs counts.", NOT_NEGATIVE)
    max_minutes: float = flag(
        0.0, "Stop after so many minutes of training, resumed runs included; 0: no limit.",
        NOT_NEGATIVE)
    skip_nonfinite: int = flag(
        0, "How many steps in a row may have a loss or gradient that is not finite, and are left "
        "out; one more ends the run.", NOT_NEGATIVE)
    val_every: int = flag(
        0, "Steps between validations, each with a checkpoint; 0: an epoch.", NOT_NEGATIVE)
    save_every: int = flag(0, "Steps between further checkpoints; 0: none.", NOT_NEGATIVE)
    keep_checkpoints: int = flag(3, "How many of the last checkpoints are kept.", POSITIVE)
    strategy: str = flag(
        "auto", "What trains: one device, a replica on each GPU (mirrored), or several processes "
        "(multiworker). auto: multiworker where TF_CONFIG or Slurm says so, else mirrored where "
        "there are several GPUs.", allowed=("auto", "one", "mirrored", "multiworker"))
    logical_cpus: int = flag(
        1, "CPU devices that stand for GPUs, to try a layout without them.", POSITIVE)


@dataclasses.dataclass(frozen=True)
class EvaluationFlags:
    """Evaluation and samples."""

    checkpoint: str = flag(
        "best", "Which weights to evaluate and to sample from, best or last; of import and export "
        "the .pth file of the PyTorch reference.")
    tolerance: float = flag(
        0.0005, "Half of the width of the proven bounds of each density in evaluation, bits (of "
        "images) or nats for each dimension; 0: no bounds, but the unbiased series.", NOT_NEGATIVE)
    n_exact_terms_eval: int = flag(20, "As n_exact_terms, for evaluation unbounded.", NOT_NEGATIVE)
    eval_probes: int = flag(
        3, "Passes over the test part with fresh probes, whose error needs two.", POSITIVE)
    eval_draws: int = flag(
        1, "Draws of variational noise, of which the log of the mean density counts: the more, the "
        "tighter is the bound.", POSITIVE)
    exact: bool = flag(False, "Exact log-determinants; of up to 64 columns they are anyway.")
    n_sample_images: int = flag(64, "Samples to draw.", POSITIVE)
    temperature: float = flag(1.0, "Standard deviation of the latent in samples.", NOT_NEGATIVE)
    sample_seed: int = flag(
        -1, "Seed of the samples, for others of the same model; -1: the run's.", SAMPLE_SEED)
    data_out: str = flag(
        "", "Of ood, the other data: a name as of --data, a folder of images, or a file.")


GROUPS = (DataFlags, ModelFlags, TrainingFlags, EvaluationFlags, SamplingFlags)


@dataclasses.dataclass(frozen=True)
class Settings(SamplingFlags, EvaluationFlags, TrainingFlags, ModelFlags, DataFlags):
    """One field for each flag, and the command."""

    command: str = "train"

    @property
    def subject(self):
        """What is learned, by name: data or a target."""
        return self.target if self.task == "sampling" else self.data


# What a run may not change when it is continued: the data it sees and the model it trains.
FIXED = tuple(f.name for group in (DataFlags, ModelFlags, SamplingFlags)
              for f in dataclasses.fields(group)
              if f.name not in ("dataroot", "val_batchsize", "n_test", "solver", "rtol", "atol",
                                "max_solver_steps", "autodiff", "mem_eff", "kl_gradient",
                                "n_importance"))
FIXED += "seed", "optimizer", "ema_val", "update_freq", "task", "hybrid_weight"


def read(field, value):
    """The value of a field from what a flag or a file says: text, where it is several numbers.

    Raises:
      ValueError: it is of another type or not allowed; the message says what it must be.
    """
    rule, allowed = field.metadata["rule"], field.metadata["allowed"]
    if isinstance(rule, Kind):
        found = rule.read(value) if isinstance(value, str) else None
        if found is None:
            raise ValueError(rule.words)
        return found
    kinds = (int, float) if field.type is float else (field.type,)
    if type(value) not in kinds:
        raise ValueError(f"of type {field.type.__name__}")
    if allowed and value not in allowed:
        raise ValueError(f"one of {', '.join(filter(None, allowed))}")
    return value


def written(settings):
    """`{name: value}` as files and messages have it: `read` of each gives the field."""
    texts = {}
    for field in dataclasses.fields(settings):
        rule, value = field.metadata.get("rule"), getattr(settings, field.name)
        texts[field.name] = rule.write(value) if isinstance(rule, Kind) else value
    return texts


def wants_labels(settings):
    """Whether labels are asked for: as a context, or for a classifier."""
    return settings.conditional or settings.task in ("classification", "hybrid")


def check(settings):
    """Raises `ValueError`, one line that names the flag, unless all rules hold."""
    for field in dataclasses.fields(settings):
        rule, value = field.metadata.get("rule"), getattr(settings, field.name)
        finite = not isinstance(value, float) or math.isfinite(value)
        if isinstance(rule, Rule) and not (finite and rule.holds(value)):
            raise ValueError(f"--{field.name} must be {rule.words}. "
                             f"Received: --{field.name}={value}")
    for name, holds, words in _together(settings):
        if not holds:
            raise ValueError(f"--{name} must {words}. Received: --{name}={getattr(settings, name)}")


def _together(s):
    """`(flag, whether it fits the others, what it must do)`."""
    yield ("dataroot", s.dataroot or s.data not in ON_DISK or s.task == "sampling",
           f"name the file or folder for --data={s.data}")
    yield ("dataroot", not s.dataroot or s.data in ON_DISK,
           f"come with --data={', '.join(ON_DISK[:-1])} or {ON_DISK[-1]}: nothing reads it with "
           f"--data={s.data}")
    yield ("conditional", not s.conditional or s.data in LABELLED,
           f"come with --data={', '.join(LABELLED[:-1])} or {LABELLED[-1]}, which have labels")
    wanted = wants_labels(s)
    yield ("labels", s.labels or not wanted or s.data != "csv",
           "name the column of the labels, with --data=csv")
    yield ("labels", not s.labels or s.data in ("csv", "array"),
           "come with --data=csv or array")
    yield ("labels", not s.labels or wanted or s.command == "ood",
           "come with --conditional, or with --task=classification or hybrid")
    yield ("task", s.task in ("density", "sampling") or s.data in LABELLED,
           f"be density unless --data is {', '.join(LABELLED[:-1])} or {LABELLED[-1]}")
    yield ("conditional", not s.conditional or s.task in ("density", "sampling"),
           "not come with --task=classification or hybrid: x would be classified given its class")
    yield ("context_columns", not s.context_columns or s.data == "csv", "come with --data=csv")
    yield ("context_columns", not s.context_columns or not wanted, "not come with --conditional, "
           "or with --task=classification or hybrid: the context is one or the other")
    moves = s.command in ("import", "export")
    yield "checkpoint", moves or s.checkpoint in ("best", "last"), "be best or last"
    yield ("checkpoint", not moves or s.checkpoint not in ("", "best", "last"),
           f"name a .pth file for {s.command}")
    yield ("frequency", not s.frequency or s.act in ("swish", "sin", "tanh"),
           f"be 0 with --act={s.act}: swish, sin and tanh alone have one")
    yield ("data_out", s.data_out or s.command != "ood",
           "name a data set, a folder of images or a file for ood")
    yield ("autodiff", s.mem_eff or s.autodiff in ("", "stored"),
           "be stored, or not given, with --nomem_eff")
    yield from together(s)
