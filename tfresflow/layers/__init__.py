"""Keras layers with a known Lipschitz constant."""

from tfresflow.layers.activations import ELU, Identity, LipschitzCube, LipSwish, ReLU, Softplus
from tfresflow.layers.conv import InducedNormConv2D
from tfresflow.layers.dense import InducedNormDense
from tfresflow.layers.norms import PowerIteration

__all__ = ["ELU", "Identity", "InducedNormConv2D", "InducedNormDense", "LipSwish",
           "LipschitzCube", "PowerIteration", "ReLU", "Softplus"]
