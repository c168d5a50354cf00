"""Residual flows: layers, log-determinants, solvers and a Keras model."""

import sys

# While Python looks for `__main__`, of the command line `python -m tfresflow`, nothing is imported:
# TensorFlow takes seconds, and is told by the environment what to do, see `train/environment.py`.
_IS_STARTING = sys.argv[:1] == ["-m"] and ("-m", "tfresflow") in zip(
    sys.orig_argv, sys.orig_argv[1:])

if not _IS_STARTING:
    from tfresflow import backend  # isort: skip, as it looks at Keras before others do
    from tfresflow import (autodiff, functions, importance, layers, logdet, losses, serving,
                           solvers, targets)
    from tfresflow.batches import seeds, threads
    from tfresflow.flow_layer import FlowLayer
    from tfresflow.model import FlowModel
    from tfresflow.training import optimizers
    from tfresflow.training.distributed import NonFinite

__all__ = ["FlowLayer", "FlowModel", "NonFinite", "autodiff", "backend", "functions", "importance",
           "layers", "logdet", "losses", "optimizers", "seeds", "serving", "solvers", "targets",
           "threads"]
__version__ = "0.2.0"
