"""Arguments of constructors and methods: one line that names argument, rule and value."""

import math
import numbers

__all__ = ["check", "check_number", "check_object", "check_whole", "is_number", "is_whole"]


def check(holds, name, rule, value):
    """Raises `ValueError` unless the rule holds."""
    if not holds:
        raise ValueError(f"`{name}` must {rule}. Received: {name}={value}")


def is_whole(value):
    """Whether a value is an integer, NumPy's too, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value):
    """Whether a value is a real number, NumPy's too, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_whole(name, value, least, optional=False):
    """Raises `ValueError` unless a value is a whole number, or None if it is optional."""
    rule = f"be at least {least}, a whole number" + (", or None" if optional else "")
    check(optional and value is None or is_whole(value) and value >= least, name, rule, value)


def check_number(name, value, rule, holds=math.isfinite):
    """Raises `ValueError` unless a value is a number of which the rule holds."""
    check(is_number(value) and holds(value), name, rule, value)


def check_object(name, value, rule, *methods):
    """Raises `ValueError` unless a value is an object with these methods, not its class."""
    fits = not isinstance(value, type) and all(callable(getattr(value, m, None)) for m in methods)
    check(fits, name, rule, value)
