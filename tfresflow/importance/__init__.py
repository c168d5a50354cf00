"""Samples of a flow, weighed to be those of a density that is known up to a constant."""

from tfresflow.importance.chain import Chain, metropolis
from tfresflow.importance.pareto import pareto_k
from tfresflow.importance.weighted import Weighted, effective_size, log_mean_weight

__all__ = ["Chain", "Weighted", "effective_size", "log_mean_weight", "metropolis", "pareto_k"]
