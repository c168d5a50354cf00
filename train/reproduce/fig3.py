"""Figure 3: spectral normalisation against learned orders, equal in a branch or mixed."""

import numpy as np

from train.reproduce.curves import compare, ranking

__all__ = ["reproduce"]

_SETTINGS = {"2-norm": ("--nolearn_p",), "equal, learned": ("--learn_p", "--nomixed"),
             "mixed, learned": ("--learn_p", "--mixed")}


def reproduce(folder, quick):
    """The figure, its csv and the verdict: is mixed best, beyond two standard errors?"""
    results = compare(folder / "fig3", quick, "digits", _SETTINGS, (0, 1),
                      ("--niters=1000", "--max_minutes=0", "--nocertified"))
    (fixed, e1), (mixed, e2) = results["2-norm"], results["mixed, learned"]
    gain = (fixed - mixed) / np.hypot(e1, e2)
    word = "confirmed" if gain > 2 else "not confirmed"
    return (f"{word}: mixed norms gain {fixed - mixed:+.4f} bits/dim on the 2-norm, {gain:.1f} "
            f"standard errors ({ranking(results)})")
