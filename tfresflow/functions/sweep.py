"""Through all steps of a flow and back: what strategies for the gradient have in common."""

import functools

import tensorflow as tf

from tfresflow.checks.rules import check_kind

__all__ = ["Sweep", "check_sweep"]


class Sweep:
    """The derivative of `a(z) + <d, log_det>`, step by step; here with all activations kept.

    A subclass overrides `forward`, which decides what is kept of a step.
    """

    def __call__(self, steps, x, rows, dlog_det, end):
        """Goes through the steps, then back.

        Args:
          steps: of a flow that was bound, see `steps.py`.
          x: `[n, ...]`.
          rows: `Rows`.
          dlog_det: d, `[n]`.
          end: `z -> (outputs, dz)`, dz the derivative of a.

        Returns:
          `(outputs, dx, log_det, dweights)`: the last three as in `Step.vjp`, for all steps.
        """
        pulls, log_dets, dweights = [], [], []
        for step in steps:
            x, pull = self.forward(step, x, rows, dlog_det)
            pulls.append(pull)
        outputs, dz = end(x)
        while pulls:  # emptied, so that what a step keeps lives no longer than it has to
            dz, log_det, own = pulls.pop()(dz)
            log_dets.append(log_det)
            dweights.append(own)
        return outputs, dz, tf.add_n(log_dets), [d for own in reversed(dweights) for d in own]

    def forward(self, step, x, rows, dlog_det):
        """`(z, pull)` of a step, where `pull(dz)` is `step.vjp(x, rows, dz, dlog_det)`."""
        z, pull = step.linearise(x, rows)
        return z, functools.partial(pull, dlog_det=dlog_det)


def check_sweep(autodiff):
    """Raises `ValueError` unless `autodiff` is a strategy for the gradient."""
    check_kind("autodiff", autodiff, "be `Recomputed()`, `Stored()` or `Released()` of "
               "tfresflow.autodiff, or another `Sweep`", Sweep)
