"""Residual flows: layers, log-determinants, solvers and a Keras model."""

from tfresflow import lanes, layers, logdet, losses, optimizers, solvers
from tfresflow.model import FlowModel

__all__ = ["FlowModel", "lanes", "layers", "logdet", "losses", "optimizers", "solvers"]
__version__ = "0.1.0"
