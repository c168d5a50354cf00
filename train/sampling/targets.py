"""Flags to the density that is sampled from, and to the divergence from it."""

from tfresflow import losses, targets
from train.data.source import SPLITS, Source
from train.sampling.flags import LATTICES

__all__ = ["build_loss", "build_target", "constants", "source"]

_GRADIENTS = {"path": losses.Path, "standard": losses.Standard, "drop_in": losses.DropIn}


def build_target(settings):
    """The density of --target, one of `tfresflow.targets`."""
    match settings.target:
        case "gmm":
            return targets.GaussianMixture(settings.dimensions)
        case "many_well":
            return targets.ManyWell(settings.dimensions)
        case "funnel":
            return targets.Funnel(settings.dimensions)
        case "phi4":
            return targets.Phi4(settings.lattice, settings.m2, settings.lam)
        case "u1":
            return targets.U1(settings.lattice, settings.beta)


def build_loss(settings):
    """What `FlowModel.compile` takes as its loss: a divergence; None: the likelihood."""
    if settings.task != "sampling":
        return None
    kind = losses.ReverseKL if settings.kl == "reverse" else losses.ForwardKL
    return kind(build_target(settings), _GRADIENTS[settings.kl_gradient]())


def constants(settings):
    """What the target is, for a file: its name and the flags that it has."""
    names = {"phi4": ("lattice", "m2", "lam"), "u1": ("lattice", "beta")}
    return {"target": settings.target, **{name: getattr(settings, name) for name in names.get(
        settings.target, ("dimensions",))}}


def source(settings):
    """A `Source` without data: what the model needs to know of the target."""
    kind = settings.target if settings.target in LATTICES else (
        "toy" if settings.sampler == "evaluated" else "vector")
    return Source(kind, build_target(settings).event_shape, dict.fromkeys(SPLITS), {})
