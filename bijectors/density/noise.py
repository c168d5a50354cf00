"""Uniform numbers that are a function of a row: the same row has the same ones in any batch."""

import numpy as np

__all__ = ["keys_of", "uniform"]

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


def keys_of(rows, seed):
    """A 64-bit number for each row of float64 `[n, D]`, and `seed`."""
    bits = (rows + 0.0).view(np.uint64)  # -0.0 is 0.0
    keys = np.full(len(rows), _mixed(np.array([seed], np.uint64))[0])
    for column in bits.T:
        keys = _mixed((keys + _STEP) ^ column)
    return keys


def uniform(keys, draw, count):
    """Draw number `draw`: uniform numbers `[n, count]` in [0, 1) for keys `[n]`.

    They are the generator SplitMix64, begun at the key.

    References: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators (2014).
    """
    places = np.arange(draw * count + 1, (draw + 1) * count + 1, dtype=np.uint64)
    return (_mixed(keys[:, None] + places * _STEP) >> np.uint64(11)) * 2.0 ** -53


def _mixed(x):
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
