"""Traces, log-determinants and products with a Hessian, for models of your own.

    hutchinson_trace         the trace of a matrix of which only products are known, by random signs
    hutchpp_trace            the same with less variance where a few eigenvalues dominate
    log_abs_det              the log-determinant, whose gradient is the inverse, transposed
    hessian_vector_product   H v, without H

A linear system of which only products are known is solved by `solvers.linear_solve`, which has a
gradient, too. The other modules of this package are what the library itself is made of: functions
of weights with their derivatives, and steps of flows.
"""

from tfresflow.functions.determinant import log_abs_det
from tfresflow.functions.hessian import hessian_vector_product
from tfresflow.functions.traces import hutchinson_trace, hutchpp_trace

__all__ = ["hessian_vector_product", "hutchinson_trace", "hutchpp_trace", "log_abs_det"]
