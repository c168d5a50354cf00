"""How a flow is differentiated: what is kept between the forward and the backward pass.

    Stored            all activations
    Recomputed        the input of each step; the default
    Released          the activations of g, and the log-determinant's gradient
    Checkpointed      the input of every k-th step
    Reversible        z: the input of each step is found by its inverse
    Moonwalk          x: the derivative by x is found first, all others in a forward sweep
    MemoryPoor        x: all else is computed anew for each step
    ForwardMode       x: one forward pass for each weight
    ProjectedForward  x: forward passes in random directions; unbiased, not exact
    Auto              as the fastest does that fits into a given memory

All but `ProjectedForward` give the same numbers; `saved` shows what is kept, tensor by tensor. Each
is a subclass of `functions.sweep.Sweep`, given to `FlowModel(autodiff=...)` or to `gradients`.
`walk` gives the gradient block by block, each to be applied before the next is there.
"""

from tfresflow.autodiff.auto import Auto
from tfresflow.autodiff.checkpointed import Checkpointed
from tfresflow.autodiff.forward_mode import ForwardMode, ProjectedForward
from tfresflow.autodiff.gradients import gradients, walk
from tfresflow.autodiff.memory_poor import MemoryPoor
from tfresflow.autodiff.moonwalk import Moonwalk
from tfresflow.autodiff.recomputed import Recomputed
from tfresflow.autodiff.released import Released
from tfresflow.autodiff.reversible import Reversible
from tfresflow.autodiff.saved import saved
from tfresflow.autodiff.stored import Stored

__all__ = ["Auto", "Checkpointed", "ForwardMode", "MemoryPoor", "Moonwalk", "ProjectedForward",
           "Recomputed", "Released", "Reversible", "Stored", "gradients", "saved", "walk"]
