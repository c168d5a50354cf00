"""How a flow is differentiated: what is kept between the forward and the backward pass.

    Stored       all activations
    Recomputed   the input of each step; the default
    Released     the activations of g, and the log-determinant's gradient

All give the same numbers. Each is a subclass of `functions.sweep.Sweep`, given to
`FlowModel(autodiff=...)` or to `gradients`.
"""

from tfresflow.autodiff.gradients import gradients
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.autodiff.released import Released
from tfresflow.autodiff.stored import Stored

__all__ = ["Recomputed", "Released", "Stored", "gradients"]
