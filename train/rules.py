"""What a flag may be: rules of its value, and how flags of several numbers are read and written."""

import dataclasses
import math
import os
import re
import typing

__all__ = ["ALPHA", "AT_LEAST_TWO", "BITS", "FINITE", "FRACTION", "NOT_NEGATIVE", "ORDERS", "PATH",
           "POSITIVE", "SAMPLE_SEED", "SEED", "SIDE", "SIZES", "SPAN", "Kind", "Rule", "flag"]


class Rule(typing.NamedTuple):
    """What holds of a flag's value, and the same in words."""

    holds: typing.Callable
    words: str


class Kind(typing.NamedTuple):
    """A flag of several numbers: how its text is read, None where it cannot be, and written."""

    read: typing.Callable
    write: typing.Callable
    words: str


def flag(default, text, rule=None, allowed=()) -> typing.Any:
    """A field of `Settings`: its default, the text of --help, a `Rule` or `Kind`, the values."""
    return dataclasses.field(default=default, metadata={
        "text": text, "rule": rule, "allowed": allowed})


def _whole(text):
    parts = text.split("-")
    good = all(p.isdecimal() and int(p) > 0 for p in parts)
    return tuple(map(int, parts)) if good else None


def _orders(text):
    known = text and set(text) <= set("123456789f")
    return tuple(math.inf if c == "f" else float(c) for c in text) if known else None


def _span(text):
    try:
        low, high = map(float, text.split("-"))
    except ValueError:
        return None
    return (low, high) if 1 < low < high < math.inf else None


SIZES = Kind(_whole, lambda v: "-".join(map(str, v)),
             "positive whole numbers with dashes between, as 16-16-16")
ORDERS = Kind(_orders, lambda v: "".join("f" if p == math.inf else str(int(p)) for p in v),
              "digits, or f for infinity, as 2222")
SPAN = Kind(_span, lambda v: "-".join(map(str, v)),
            "two numbers above 1 with a dash between, the lower one first, as 1.5-2.5")

POSITIVE = Rule(lambda v: v > 0, "positive")
FINITE = Rule(math.isfinite, "a finite number")
NOT_NEGATIVE = Rule(lambda v: v >= 0, "at least 0")
FRACTION = Rule(lambda v: 0 < v < 1, "in (0, 1)")
BITS = Rule(lambda v: 1 <= v <= 8, "in 1..8")
SEED = Rule(lambda v: 0 <= v < 2 ** 31, "less than 2^31, and not negative")
SAMPLE_SEED = Rule(lambda v: v == -1 or SEED.holds(v), "less than 2^31, and not negative, or -1")
AT_LEAST_TWO = Rule(lambda v: v >= 2, "at least 2: a standard error needs two")
SIDE = Rule(lambda v: v >= 2, "at least 2")
ALPHA = Rule(lambda v: v == -1 or 0 < v < 0.5, "in (0, 0.5), or -1")
PATH = Rule(lambda v: not re.search(r"\\|\[.*\]", os.path.normpath(v)),
            "a path without [...] and backslashes, which TensorFlow takes for patterns when it "
            "looks for checkpoints")
