"""Residual flows: layers, log-determinants, solvers and a Keras model."""

from tfresflow import layers, logdet, losses, solvers
from tfresflow.model import FlowModel

__all__ = ["FlowModel", "layers", "logdet", "losses", "solvers"]
__version__ = "0.1.0"
