"""Flags that are typed and do nothing with the others: told, as they may stand for a mistake."""

import dataclasses
import re

from train.sampling.flags import LATTICES, size
from train.settings import FIXED, TOYS, DataFlags, SamplingFlags, TrainingFlags

__all__ = ["idle"]

_IMAGES = ("idim kernels squeeze_first factor_out fc_actnorm logit_transform alpha fc_end "
           "n_fc_blocks fc_idim preact first_resblock imagesize resize_mode nbits add_noise "
           "dequantise dequantise_blocks dequantise_idim eval_draws random_flip").split()
# Of residual blocks: their norms, their log-determinants, their inverse.
_RESIDUAL = ("coeff vnorms learn_p mixed p_range certified n_lipschitz_iters sn_tol n_power_series "
             "n_dist threshold n_lambda geom_p n_samples n_probes probe n_exact_terms neumann_grad "
             "densenet densenet_depth densenet_growth learnable_concat solver rtol atol "
             "max_solver_steps exact eval_probes tolerance n_exact_terms_eval "
             "exact_training").split()
_VARIATIONAL = "dequantise_blocks", "dequantise_idim", "eval_draws"
_TRAINING = ({f.name for f in dataclasses.fields(TrainingFlags)} | {"autodiff", "mem_eff"}) - {
    *FIXED, "workdir"}
_OF_DATA = {f.name for f in dataclasses.fields(DataFlags)} - {
    "n_test", "batchsize", "val_batchsize"} | {*_IMAGES, "autodiff", "mem_eff", "eval_probes",
                                               "temperature", "reference_layout"}
_FIXED_PARTS = {"val_fraction": ("mnist5k", "photos"),
                "test_fraction": ("mnist5k", "photos", "mnist", "cifar10")}


def idle(settings, argv):
    """Lines about flags of a command line, not of its flagfiles, that have no effect.

    Args:
      settings: the `Settings` of all flags.
      argv: as `sys.argv`.
    """
    names = {re.sub("=.*", "", a).lstrip("-") for a in argv[1:] if a.startswith("-")}
    typed = names | {name.removeprefix("no") for name in names}
    told = {}  # of a flag the first reason
    for rules in (_commands, _sampling, _data, _model, _training):
        for name, works, why in rules(settings):
            if name in typed and not works:
                told.setdefault(name, f"--{name} has no effect {why}")
    return list(told.values())


# Each gives `(flag, whether it does something, where it does not)`.


def _commands(s):
    for name in sorted(_TRAINING):
        yield name, s.command == "train", f"with {s.command}, which does not train"
    yield "eval_draws", s.command != "sample", "with sample, which does not evaluate"
    for name in ("eval_probes", "exact", "tolerance", "n_exact_terms_eval"):
        yield name, s.command != "sample" or s.task == "sampling", (
            "with sample, which does not evaluate")
        yield name, s.data not in TOYS, f"with --data={s.data}, of which densities are exact"
    for name in ("n_sample_images", "temperature", "sample_seed"):
        yield name, s.command not in ("eval", "ood"), f"with {s.command}, which draws no samples"
    yield "data_out", s.command == "ood", f"with {s.command}, which looks at no other data"
    for name in ("eval_probes", "tolerance", "n_exact_terms_eval"):
        yield name, not s.exact, "with --exact"
    yield "n_exact_terms_eval", not s.tolerance, f"with --tolerance={s.tolerance}"
    yield "n_exact_terms_eval", s.n_dist != "adaptive", "with --n_dist=adaptive"


def _sampling(s):
    for field in dataclasses.fields(SamplingFlags):
        yield field.name, s.task == "sampling", f"with --task={s.task}"
    if s.task != "sampling":
        return
    given = f"with --target={s.target}"
    for name in _OF_DATA - {"idim", "kernels", "preact"}:
        yield name, False, "with --task=sampling"
    yield "preact", s.target == "phi4", given
    for name in ("actnorm", "vnorms", "learn_p", "certified", "densenet"):
        yield name, s.target != "u1", given
    for name in ("idim", "kernels", "lattice", "n_sample_images"):
        yield name, s.target in LATTICES, f"{given}, which is on no lattice"
    for name in ("dimensions", "dims"):
        yield name, s.target not in LATTICES, f"{given}, which is on a lattice"
    for name, target in (("m2", "phi4"), ("lam", "phi4"), ("beta", "u1")):
        yield name, s.target == target, given
    if size(s) <= 64:
        for name in ("exact", "tolerance", "n_exact_terms_eval"):
            yield name, False, f"{given}, of which densities are exact"
    for name in ("n_samples", "n_exact_terms", "n_probes", "neumann_grad"):
        yield name, not s.exact_training, "with --exact_training"
    yield "kl_gradient", s.command == "train", f"with {s.command}, which does not train"
    yield "n_test", s.command == "train", f"with {s.command}, which validates nothing"


def _data(s):
    if s.task == "sampling":
        return
    drawn, given = s.data in TOYS, f"with --data={s.data}"
    yield "n_test", drawn, f"{given}, which is not drawn"
    yield "n_sample_images", not drawn, f"{given}, of which as many samples are drawn as data"
    for name, sources in _FIXED_PARTS.items():
        yield name, not drawn, f"{given}, of which --n_test are drawn"
        yield name, s.data not in sources, f"{given}, whose parts are fixed"
    for name in _IMAGES:
        yield name, not drawn and s.data != "csv", f"{given}, which is no images"
    yield "resize_mode", s.data == "folder", f"{given}, which is no folder"
    yield "resize_mode", s.imagesize, "with --imagesize=0"
    yield "dims", drawn or s.data in ("csv", "array"), f"{given}, which is images"


def _model(s):
    for name in ("n_samples", "n_exact_terms"):
        yield name, not s.n_power_series, "with a truncated series, --n_power_series"
    for name in ("n_dist", "n_lambda", "geom_p", "threshold"):
        yield name, not s.n_power_series or not (s.exact or s.tolerance or s.data in TOYS), (
            "with --n_power_series, where evaluation is exact or has bounds")
    for name in ("n_samples", "n_exact_terms"):
        yield name, s.n_dist != "adaptive", "with --n_dist=adaptive"
    yield "threshold", s.n_dist == "adaptive", f"with --n_dist={s.n_dist}"
    yield "n_lambda", s.n_dist == "poisson", f"with --n_dist={s.n_dist}"
    yield "geom_p", s.n_dist == "geometric", f"with --n_dist={s.n_dist}"
    for name in ("densenet_depth", "densenet_growth", "learnable_concat"):
        yield name, s.densenet, "without --densenet"
    for name in ("idim", "kernels", "dims", "fc_idim"):
        yield name, not s.densenet, "with --densenet"
    for name in ("mixed", "p_range"):
        yield name, s.learn_p, "without --learn_p"
    for name in _VARIATIONAL:
        yield name, s.dequantise == "variational", f"with --dequantise={s.dequantise}"
    yield "add_noise", s.dequantise == "uniform", f"with --dequantise={s.dequantise}"
    for name in _RESIDUAL if s.dequantise != "variational" else ():  # whose noise has such blocks
        yield name, s.block != "coupling", "with --block=coupling, which is exact and has no norms"
    yield "vnorms", not s.learn_p, "with --learn_p"
    yield "alpha", s.logit_transform, "with --nologit_transform"
    for name in ("n_fc_blocks", "fc_idim"):
        yield name, s.fc_end, "with --nofc_end"
    yield "hybrid_weight", s.task == "hybrid", f"with --task={s.task}"
    yield "cdim", s.task != "density", "with --task=density"


def _training(s):
    for name in ("mem_eff", "autodiff"):
        yield name, s.block != "monotone", "with --block=monotone, of which each keeps one tensor"
    yield "mem_eff", not s.autodiff, f"with --autodiff={s.autodiff}"
    yield "ema_decay", s.ema_val, "with --noema_val"
    yield "beta_2", s.optimizer in ("adam", "adamw", "adamax"), f"with --optimizer={s.optimizer}"
    yield "nepochs", not s.niters, f"with --niters={s.niters}"
    yield "logical_cpus", s.strategy != "one", "with --strategy=one"
