"""The flags of `--task=sampling`, and what they must be together."""

import dataclasses

from train.rules import AT_LEAST_TWO, FINITE, NOT_NEGATIVE, SIDE, flag

__all__ = ["LATTICES", "SamplingFlags", "TARGETS", "size", "together"]

LATTICES = ("phi4", "u1")
TARGETS = ("gmm", "many_well", "funnel", *LATTICES)


@dataclasses.dataclass(frozen=True)
class SamplingFlags:
    """Sampling, with --task=sampling."""

    target: str = flag(
        "gmm", "Density to sample from: a mixture of 2^D normals, D/2 double wells, Neal's funnel; "
        "on a torus, a scalar field or angles of links.", allowed=TARGETS)
    dimensions: int = flag(6, "D of gmm, many_well and funnel.", SIDE)
    lattice: int = flag(8, "Side of the torus of phi4 and u1, in sites.", SIDE)
    m2: float = flag(
        -4.0, "Squared mass of phi4: S = sum m2 phi^2 + lam phi^4 + sum_mu (2 phi^2 - phi phi_+ - "
        "phi phi_-).", FINITE)
    lam: float = flag(6.008, "Coupling of phi4; 0: a free field.", NOT_NEGATIVE)
    beta: float = flag(2.0, "Inverse coupling of u1.", NOT_NEGATIVE)
    kl: str = flag(
        "reverse", "Divergence that is minimised: reverse, of samples of the flow, or forward, of "
        "exact samples of the target.", allowed=("reverse", "forward"))
    kl_gradient: str = flag(
        "path", "Its gradient; drop_in: as path, in two passes, for comparison.",
        allowed=("path", "standard", "drop_in"))
    sampler: str = flag(
        "evaluated", "A block's side that samples: x + g(x), evaluated, or its inverse, solved.",
        allowed=("evaluated", "solved"))
    exact_training: bool = flag(
        False, "Exact log-determinants in training, too: of few numbers the better gradient.")
    n_importance: int = flag(10000, "Weighted samples of eval and sample.", AT_LEAST_TWO)


def together(s):
    """`(flag, whether it fits the others, what it must do)`, see `settings.check`."""
    if s.task != "sampling":
        return
    yield ("task", s.command in ("train", "eval", "sample"),
           f"not be sampling for {s.command}, which is about data")
    yield ("dimensions", s.target != "many_well" or s.dimensions % 2 == 0,
           "be even for --target=many_well")
    yield ("m2", s.target != "phi4" or s.lam > 0 or s.m2 > 0,
           "be positive for --target=phi4 with --lam=0")
    yield ("act", s.target != "phi4" or s.block == "coupling" or s.act in ("sin", "tanh"),
           "be sin or tanh for --target=phi4, whose action is the same for phi and -phi")
    yield ("block", s.target != "u1" or s.block != "coupling",
           "not be coupling for --target=u1: couplings do not commute with gauge transformations")
    yield ("kl", s.kl == "reverse" or s.target != "phi4" or s.lam == 0,
           "be reverse for --target=phi4, of which there are no exact samples unless --lam=0")


def size(s):
    """Numbers of one sample."""
    return {"phi4": s.lattice ** 2, "u1": 2 * s.lattice ** 2}.get(s.target, s.dimensions)
