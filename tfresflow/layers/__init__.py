"""Keras layers with a known Lipschitz constant.

The layers compute in float32 or float64, and raise `ValueError` for any other `dtype`. An
elementwise activation takes a tensor of any shape, and returns one of the same shape.
"""

from tfresflow.layers.activations import (ELU, Identity, LipschitzCube, LipSwish, ReLU, Sin,
                                          Softplus, Tanh)
from tfresflow.layers.both_signs import CLipSwish, Concatenated
from tfresflow.layers.branch import Branch
from tfresflow.layers.concatenation import LipschitzConcatenation
from tfresflow.layers.conv import InducedNormConv1D, InducedNormConv2D, InducedNormConv3D
from tfresflow.layers.dense import InducedNormDense
from tfresflow.layers.film import FiLM
from tfresflow.layers.named import KerasActivation, as_activation
from tfresflow.layers.norms import PowerIteration
from tfresflow.layers.orders import LearnedOrder
from tfresflow.layers.pila import CPila, Pila
from tfresflow.layers.plaquettes import LinksOfPlaquettes, Plaquettes
from tfresflow.layers.sorting import FullSort, MaxMin

__all__ = ["Branch", "CLipSwish", "CPila", "Concatenated", "ELU", "FiLM", "FullSort", "Identity",
           "InducedNormConv1D", "InducedNormConv2D", "InducedNormConv3D", "InducedNormDense",
           "KerasActivation", "LearnedOrder", "LipSwish", "LipschitzConcatenation",
           "LipschitzCube", "LinksOfPlaquettes", "MaxMin", "Pila", "Plaquettes", "PowerIteration",
           "ReLU", "Sin", "Softplus", "Tanh", "as_activation"]
