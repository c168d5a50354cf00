"""What a density model is scored by."""

from tfresflow.losses.likelihood import StandardNormal, bits_per_dim

__all__ = ["StandardNormal", "bits_per_dim"]
