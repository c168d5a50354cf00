"""Solvers of fixed points and linear systems: each returns a `Solution`, example by example."""

from tfresflow.solvers.accelerated import Anderson, Broyden
from tfresflow.solvers.direct import Direct
from tfresflow.solvers.fixed_point import FixedPointSolver, Picard
from tfresflow.solvers.implicit import Implicit
from tfresflow.solvers.krylov import CG, BiCGSTAB, Normal
from tfresflow.solvers.linear import FixedPoint, LinearSolver, Neumann, Roulette, num_terms
from tfresflow.solvers.linear_solve import linear_solve
from tfresflow.solvers.newton import Newton
from tfresflow.solvers.solution import Solution, require_converged
from tfresflow.solvers.unrolled import Truncated, Unrolled

__all__ = ["Anderson", "BiCGSTAB", "Broyden", "CG", "Direct", "FixedPoint", "FixedPointSolver",
           "Implicit", "LinearSolver", "Neumann", "Newton", "Normal", "Picard", "Roulette",
           "Solution", "Truncated", "Unrolled", "linear_solve", "num_terms", "require_converged"]
