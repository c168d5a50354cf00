"""Section 2.2: peak memory of a training step, by how the log-determinant is differentiated.

Measured by TensorFlow's allocator, above what is there before the step.
"""

import pandas as pd
import tensorflow as tf

from bijectors import flows
from tfresflow import logdet
from train.reproduce.figure import figure, save_table
from train.reproduce.kept import kept
from train.reproduce.peak import peak

__all__ = ["reproduce"]

_METHODS = {"plain series": (logdet.Series(), logdet.Tape()),
            "Neumann": (logdet.Neumann(), logdet.Tape()),
            "released": (logdet.Series(), logdet.Released()),
            "Neumann and released": (logdet.Neumann(), logdet.Released()),
            "Neumann and recompute": (logdet.Neumann(), logdet.Recompute())}
_SHAPE, _BATCH = (14, 14, 4), 32


def reproduce(folder, quick):
    """The figure, its csv and the verdict: is the saving tenfold at 10 terms?"""
    rows, peak = [], kept(folder, _peak)
    for terms, depth in [(n, 4) for n in ((2,) if quick else (2, 5, 10, 20))] + [
            (10, d) for d in ((1,) if quick else (1, 2, 8))]:
        for method in _METHODS:
            rows.append({"method": method, "terms": terms, "blocks": depth,
                         "peak_mb": peak(terms, depth, method) / 1e6})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    save_table(table, folder / "memory.csv")
    _draw(folder / "memory.png", table)
    wide = table.pivot(index=["terms", "blocks"], columns="method", values="peak_mb")
    ratio = wide["plain series"] / wide["Neumann and released"]
    ours = wide["plain series"] / wide["Neumann and recompute"]
    at = ratio.idxmax()
    word = "confirmed" if ratio.max() >= 10 else "not confirmed"
    return (f"{word}: plain series / Neumann and released is at most {ratio.max():.1f} ({at[0]} "
            f"terms, {at[1]} blocks; the paper says ten), / Neumann and recompute {ours.max():.1f}")


def _peak(terms, depth, method):
    """Bytes of one step above those before it."""
    log_det = logdet.LogDet(logdet.Truncated(terms), *_METHODS[method])
    flow = flows.image_flow(_SHAPE, nblocks=(depth,), idim=64, fc_end=False, log_det=log_det,
                            logit_alpha=None, seed=0)
    variables = [v.value for layer in flow.layers for v in layer.trainable_variables]

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            z, log_det = flow.forward_and_log_det(x, seed=0)
            loss = tf.reduce_mean(0.5 * tf.reduce_sum(z ** 2, 1) - log_det)
        return tape.gradient(loss, variables, unconnected_gradients="zero")

    x = tf.random.stateless_normal([_BATCH, *_SHAPE], [0, 0])
    step(x)
    return peak(lambda: step(x))


def _draw(path, table):
    with figure(path, 1, 2, figsize=(9, 3), sharey=True) as (by_terms, by_depth):
        for method in _METHODS:
            own = table[table.method == method]
            for ax, along, fixed in ((by_terms, "terms", own[own.blocks == 4]),
                                     (by_depth, "blocks", own[own.terms == 10])):
                fixed = fixed.sort_values(along)
                ax.plot(fixed[along], fixed.peak_mb, marker="o", label=method)
        by_terms.set(xlabel="terms of the series", ylabel="peak memory of a step, MB",
                     xticks=sorted(set(table[table.blocks == 4].terms)),
                     yscale="log", title="4 blocks", yticks=(20, 50, 100, 200, 500, 1000))
        by_terms.yaxis.set_major_formatter("{x:g}")
        by_terms.yaxis.set_minor_formatter("")
        by_depth.set(xlabel="residual blocks", title="10 terms")
        by_depth.legend(bbox_to_anchor=(1.02, 1), loc="upper left")
