"""The parameters of `FlowDensity`: each one clear line where it is not what it should be."""

import math

from tfresflow.checks.rules import check, check_number, check_whole

__all__ = ["check_parameters"]


def check_parameters(density):
    """Raises `ValueError` that names the first parameter that is not right.

    Those of the architecture are left to `tabular_flow`.
    """
    for name in ("batch_size", "max_steps", "validate_every", "patience", "draws"):
        check_whole(name, getattr(density, name), 1)
    check_number("learning_rate", density.learning_rate, "be positive",
                 lambda value: 0 < value < math.inf)
    for name in ("noise", "weight_decay"):
        check_number(name, getattr(density, name), "not be negative",
                     lambda value: 0 <= value < math.inf)
    check_number("validation_fraction", density.validation_fraction, "be in (0, 1)",
                 lambda value: 0 < value < 1)
    check_number("contamination", density.contamination, "be in (0, 0.5]",
                 lambda value: 0 < value <= 0.5)
    for name, allowed in (("integers", ("values", "dtype")), ("missing", ("error", "median"))):
        value = getattr(density, name)
        check(value in allowed, name, f"be {' or '.join(allowed)}", value)
