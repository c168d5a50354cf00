"""Checkpoints of the PyTorch reference: read and written without PyTorch."""

from train.reference.reading import Checkpoint, Record, Tensor
from train.reference.writing import write

__all__ = ["Checkpoint", "Record", "Tensor", "write"]
