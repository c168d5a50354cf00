"""What a flow is trained and scored by: likelihood, and divergences from a density."""

from tfresflow.losses.kl import ForwardKL, ReverseKL
from tfresflow.losses.likelihood import StandardNormal, bits_per_dim
from tfresflow.losses.path import DropIn, Path, Standard

__all__ = ["DropIn", "ForwardKL", "Path", "ReverseKL", "Standard", "StandardNormal",
           "bits_per_dim"]
