"""Arguments of constructors and methods: one line that names argument, rule and value."""

import inspect
import math
import numbers
import sys

__all__ = ["check", "check_function", "check_kind", "check_number", "check_object", "check_whole",
           "is_number", "is_whole"]

_OURS = "tfresflow", "bijectors"


def check(holds, name, rule, value):
    """Raises `ValueError` unless the rule holds."""
    if not holds:
        raise ValueError(f"`{name}` must {rule}. Received: {name}={_in_one_line(value)}")


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


def check_kind(name, value, rule, kind):
    """Raises `ValueError` unless a value is an object of a class, or of one of several."""
    check(isinstance(value, kind), name, rule, value)


def check_function(name, value, rule, count, never=()):
    """Raises `ValueError` unless a value can be called with `count` arguments, and is no class.

    Args:
      name, value, rule: see `check`.
      count: of arguments.
      never: classes whose objects, though they can be called, are something else.
    """
    check_object(name, value, rule, "__call__")
    check(not isinstance(value, never), name, rule, value)
    try:
        inspect.signature(value).bind(*range(count))
    except ValueError:  # it has none, as some built-in functions
        return
    except TypeError:
        check(False, name, rule, value)


def _in_one_line(value):
    """What a value is; of an object of ours also where it comes from, as names are there twice."""
    text, package = str(value), type(value).__module__.split(".")
    if "\n" in text and hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    if package[0] in _OURS:
        public = ".".join(package[:2])
        is_room = hasattr(sys.modules.get(public), "__path__")
        text += f" of {public if is_room else package[0]}"
    return " ".join(text.split())
