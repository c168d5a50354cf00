"""Log-determinants of I + J: exact, truncated and unbiased, with the gradients to match."""

from tfresflow.batches.probes import normal, orthogonal, rademacher
from tfresflow.logdet.adaptive import Adaptive
from tfresflow.logdet.base import Estimator, bind
from tfresflow.logdet.bracket import Bracket
from tfresflow.logdet.coefficients import Geometric, Poisson, Truncated
from tfresflow.logdet.estimator import LogDet
from tfresflow.logdet.exact import Exact
from tfresflow.logdet.memory import Auto, Recompute, Released, Tape
from tfresflow.logdet.series import Neumann, Series

__all__ = ["Adaptive", "Auto", "Bracket", "Estimator", "Exact", "Geometric", "LogDet", "Neumann",
           "Poisson", "Recompute", "Released", "Series", "Tape", "Truncated", "bind", "normal",
           "orthogonal", "rademacher"]
