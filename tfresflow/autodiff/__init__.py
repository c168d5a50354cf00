"""How a flow is differentiated: what is kept between the passes. One strategy a file.

    Stored       all activations
    Recomputed   the input of each step; the default
    Released     the activations of g, and the log-determinant's gradient

All give the same numbers. Each is a `functions.sweep.Sweep`, called with the steps of a flow for
the derivative of `a(z) + <dlog_det, log_det>`.
"""

from tfresflow.autodiff.gradients import gradients
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.autodiff.released import Released
from tfresflow.autodiff.stored import Stored

__all__ = ["Recomputed", "Released", "Stored", "gradients"]
