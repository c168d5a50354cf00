"""The five ways to the gradient of a fixed point that Liao et al. (2018) compare."""

from tfresflow import solvers

__all__ = ["METHODS", "methods"]

METHODS = ("BPTT", "TBPTT", "RBP", "CG-RBP", "Neumann-RBP")


def methods(num_updates, truncation, seed=None):
    """`{name: solver}`.

    Args:
      num_updates: most updates of the forward pass.
      truncation: K, steps of the gradient, of all but BPTT.
      seed: of the original RBP's uniform start; None: another start each time.
    """
    forward = solvers.Picard(rtol=1e-6, atol=1e-6, max_steps=num_updates)
    adjoints = {"RBP": solvers.FixedPoint(num_steps=truncation, start="uniform", seed=seed),
                "CG-RBP": solvers.Normal(solvers.CG(num_steps=truncation)),
                "Neumann-RBP": solvers.Neumann(num_terms=truncation)}
    # An update that does not settle is what is measured, not an error.
    return {"BPTT": solvers.Unrolled(num_updates),
            "TBPTT": solvers.Truncated(truncation, forward, on_failure="ignore"),
            **{name: solvers.Implicit(forward, adjoint, on_failure="ignore")
               for name, adjoint in adjoints.items()}}
