"""Densities that are known up to a constant, to sample from by flows."""

from tfresflow.targets.adapted import as_target
from tfresflow.targets.funnel import Funnel
from tfresflow.targets.many_well import ManyWell
from tfresflow.targets.mixture import GaussianMixture
from tfresflow.targets.phi4 import Phi4
from tfresflow.targets.target import Target
from tfresflow.targets.u1 import U1

__all__ = ["Funnel", "GaussianMixture", "ManyWell", "Phi4", "Target", "U1", "as_target"]
