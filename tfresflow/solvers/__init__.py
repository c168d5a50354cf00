"""Solvers: each takes a function and returns a `Solution`, example by example."""

from tfresflow.solvers.fixed_point import Anderson, Picard
from tfresflow.solvers.solution import Solution, require_converged

__all__ = ["Anderson", "Picard", "Solution", "require_converged"]
