"""Figure 4: LipSwish converges faster than activations whose curvature vanishes."""

from train.reproduce.curves import compare, ranking

__all__ = ["reproduce"]

_SETTINGS = {"LipSwish": ("--act=swish",), "ELU": ("--act=elu",), "softplus": ("--act=softplus",),
             "tanh": ("--act=tanh",)}


def reproduce(folder, quick):
    """The figure, its csv and the verdict: is LipSwish the best at the end?"""
    results = compare(folder / "fig4", quick, "digits", _SETTINGS, (0, 1),
                      ("--niters=1000", "--max_minutes=0"))
    best = min(results, key=lambda label: results[label][0])
    word = "confirmed" if best == "LipSwish" else "not confirmed"
    return f"{word}: the best is {best} ({ranking(results)} bits/dim)"
