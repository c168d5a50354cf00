"""What is measured: one description of each model, which both libraries build from."""

import dataclasses

__all__ = ["WORKLOADS", "Image", "Toy"]


@dataclasses.dataclass(frozen=True)
class Image:
    """Scales of convolutional blocks, then dense ones; Poisson(2) terms after two exact ones."""

    event_shape: tuple = (28, 28, 1)
    nblocks: tuple = (4, 4, 4)
    idim: int = 128
    kernels: tuple = (3, 1, 3)
    n_fc_blocks: int = 4
    fc_idim: int = 128
    coeff: float = 0.98
    alpha: float = 1e-6
    batch: int = 32
    n_terms: int = 0  # 0: random


@dataclasses.dataclass(frozen=True)
class Toy:
    """Dense blocks in the plane; geometric(0.5) terms after two exact ones, 5 power iterations."""

    event_shape: tuple = (2,)
    nblocks: int = 100
    dims: tuple = (128, 128, 128, 128)
    coeff: float = 0.9
    batch: int = 500
    n_terms: int = 0


WORKLOADS = {
    "image-M": Image(),
    "toy-T": Toy(),
    "demo": Image(idim=48),
    "cifar10": Image((32, 32, 3), nblocks=(16, 16, 16), idim=512, alpha=0.05, batch=2),
    "growth": Image((14, 14, 4), nblocks=(4,), idim=64, n_fc_blocks=0, n_terms=4),
}
