"""Through all steps and back."""

from tfresflow.functions.steps import back

__all__ = ["sweep"]


def sweep(forward, steps, x, end):
    """The derivative of `a(z) + <d, log_det>`, step by step.

    Args:
      forward: `(step, x) -> (z, pull)` with `pull(dz) -> (dx, log_det, dweights)`.
      steps: of a flow that was bound.
      x: `[n, ...]`.
      end: `z -> (outputs, dz)`, dz the derivative of a.

    Returns:
      `(outputs, dx, log_det, dweights)`: the last three as in `Step.vjp`, for all steps.
    """
    pulls = []
    for step in steps:
        x, pull = forward(step, x)
        pulls.append(pull)
    outputs, dz = end(x)
    return (outputs, *back(pulls, dz))
