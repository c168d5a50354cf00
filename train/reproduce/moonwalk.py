"""Figures 2 to 6 of Krylov et al. (2024): memory, time, stability, and a random direction's noise.

A RevNet of additive couplings tells digits of 8 x 8, padded with zeros to 8 or 18 channels; memory
is measured of a chain of residual blocks, too. What forward mode would take is found from a few
directions, and marked `extrapolated`.
"""

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bijectors import flows
from tfresflow import autodiff, logdet
from train.reproduce.figure import figure, save_table, told
from train.reproduce.kept import kept
from train.reproduce.peak import peak
from train.reproduce.revnet import cross_entropy, digits, revnet
from train.reproduce.swept import as_float64, distance, gaussian, medians, swept, trainable

__all__ = ["reproduce"]

_LAYERS, _CHANNELS, _DEEP = (1, 3, 5, 10), (8, 18), 20
_MEMORY_BATCH, _TIME_BATCH, _TRAIN_BATCH = 512, 64, 32
_SLOPES, _SEEDS, _STEPS, _ROUNDS = (0.0, 1.0, 2.0), (0, 1, 2), 40, 5
_DIRECTIONS, _DRAWS, _HIDDEN = (1, 4, 16, 64), 12, 4
_CHEAP = ("Backprop", "Recomputed", "RevBackprop", "Mixed")
_FAILED = 0.1  # a relative error of the gradient


def _ways(directions=1):
    """`{name: strategy}`; the input's gradient of Moonwalk by a few directions in place of all."""
    return {"Backprop": autodiff.Stored(), "Recomputed": autodiff.Recomputed(),
            "RevBackprop": autodiff.Reversible(), "Mixed": _walk(autodiff.Checkpointed()),
            "Moonwalk": _walk(autodiff.ProjectedForward(directions)),
            "ProjForward": autodiff.ProjectedForward()}


def _walk(first):
    return autodiff.Moonwalk(first, fallback=None)


def reproduce(folder, quick):
    """The figure, its csv and the verdict: which of the paper's claims hold?"""
    memory = _memory(kept(folder, _peak), quick)
    seconds = _times(kept(folder, _seconds), kept(folder, _whole), quick)
    print(seconds, flush=True)
    errors = _errors(kept(folder, _trained), quick)
    spread = pd.DataFrame([row for k in _DIRECTIONS[:1 if quick else None]
                           for row in kept(folder, _spread)(k, 2 if quick else _DRAWS)])
    table = pd.concat([memory, seconds, errors, spread])
    save_table(table, folder / "moonwalk.csv")
    _draw(folder / "moonwalk.png", memory, seconds, errors, spread)
    return _verdict(memory, seconds, errors, spread)


def _memory(peak, quick):
    rows = []
    cases = [("RevNet", c) for c in _CHANNELS] + [("residual", 8)]
    for model, channels in cases[:1] if quick else cases:
        for layers in _LAYERS[:1] if quick else _LAYERS:
            for method in _ways() if model == "RevNet" else _CHEAP:
                rows.append({"model": model, "channels": channels, "layers": layers,
                             "method": method, "extrapolated": method == "Moonwalk",
                             "peak_mb": peak(model, channels, layers, method) / 1e6})
                print(rows[-1], flush=True)
    return pd.DataFrame(rows).assign(measure="memory")


def _peak(model, channels, layers, method):
    """Bytes of a gradient."""
    x, *labels = map(tf.constant, digits(channels, _MEMORY_BATCH))
    if model == "RevNet":
        flow, loss, weight = revnet(channels, layers), cross_entropy, 0.0
    else:
        x, labels, loss, weight = tf.reshape(x, [len(x), -1]), (), gaussian, -1.0
        log_det = logdet.LogDet(logdet.Truncated(4))
        flow = flows.toy_flow([x.shape[1]], nblocks=3 * layers, dims=(256,), actnorm=False,
                              log_det=log_det, seed=0)
    gradient = swept(flow, _ways()[method], loss, weight)
    gradient(x, *labels)
    return peak(lambda: gradient(x, *labels))


def _times(seconds, whole, quick):
    """Of two depths; at the smaller one Moonwalk with all its directions, too."""
    depths = (1,) if quick else (2, _DEEP)
    rows = [row for layers in depths for row in seconds(layers, 1 if quick else _ROUNDS)]
    rows += [] if quick else [whole(depths[0])]
    return pd.DataFrame(rows).assign(measure="time", model="RevNet", channels=_CHANNELS[-1])


def _whole(layers):
    """Seconds of Moonwalk with a direction for each entry of x: nothing is extrapolated."""
    batch = list(map(tf.constant, digits(_CHANNELS[-1], _TIME_BATCH)))
    gradient = swept(revnet(_CHANNELS[-1], layers), _walk(autodiff.ForwardMode()), cross_entropy)
    [found] = medians({"Moonwalk": lambda: gradient(*batch)[0]}, 1).values()
    return {"layers": layers, "method": "Moonwalk, measured", "seconds": found,
            "extrapolated": False}


def _seconds(layers, rounds):
    """Seconds of a gradient, 18 channels: rows of a method each."""
    channels, few, more = _CHANNELS[-1], 1, 5
    batch = list(map(tf.constant, digits(channels, _TIME_BATCH)))
    flow = revnet(channels, layers)
    calls = {name: swept(flow, way, cross_entropy) for name, way in _ways(few).items()}
    calls["more"] = swept(flow, _ways(more)["Moonwalk"], cross_entropy)
    found = medians({name: lambda call=call: call(*batch)[0] for name, call in calls.items()},
                    rounds)
    size = int(np.prod(batch[0].shape[1:]))
    direction = (found.pop("more") - found["Moonwalk"]) / (more - few)
    found["Moonwalk"] += (size - few) * direction
    found["Forward"] = direction * (size + _passes(flow))
    return [{"layers": layers, "method": name, "seconds": own,
             "extrapolated": name in ("Moonwalk", "Forward")} for name, own in found.items()]


def _passes(flow):
    """Forward passes that derivatives by all weights take; one of a later step is shorter."""
    sizes = [sum(v.shape.num_elements() for v in trainable(b)) for b in reversed(flow.bijectors)]
    return sum(size * (1 - i / len(sizes)) for i, size in enumerate(sizes))


def _errors(trained, quick):
    rows = []
    for slope in _SLOPES[::2] if quick else _SLOPES:
        for seed in _SEEDS[:1] if quick else _SEEDS:
            for method in ("Backprop", "RevBackprop", "Mixed"):
                own = trained(method, slope, seed, *((1, 2) if quick else (3, _STEPS)))
                rows += [{"measure": "error", "model": "RevNet", "channels": 8,
                          "method": method, "slope": slope, "seed": seed, **row} for row in own]
                print(rows[-1], flush=True)
    return pd.DataFrame(rows)


def _trained(method, slope, seed, layers, steps):
    """Adam in float32: rows of a step each, up to the first gradient that is not finite.

    The error is the distance from the gradient of a tape in float64, of the same weights.
    """
    shape = {"channels": 8, "layers": layers, "hidden": 16, "seed": seed, "slope": slope or None}
    flow, oracle = revnet(**shape), revnet(**shape, dtype="float64")
    found = swept(flow, _ways()[method], cross_entropy)
    wanted = swept(oracle, autodiff.Stored(), cross_entropy)
    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(trainable(flow))
    apply = tf.function(lambda own: optimizer.apply(own, trainable(flow)), autograph=False)
    images, labels = digits(8, steps * _TRAIN_BATCH)
    order, rows = np.random.RandomState(seed).permutation(len(images)), []
    for step, places in enumerate(np.split(order, steps)):
        x, own = tf.constant(images[places]), tf.constant(labels[places])
        as_float64(oracle, flow)
        value, gradient = found(x, own)
        error = distance(gradient, wanted(tf.cast(x, tf.float64), own)[1])
        rows.append({"step": step, "loss": float(value), "error": error})
        if not np.isfinite(error):
            break
        apply(gradient)
    return rows


def _spread(directions, draws):
    """The squared error of projected gradients, relative to the gradient's square: a row a draw.

    Of independent normal directions it is (weights + 1) / directions on average.
    """
    flow, batch = revnet(8, 1, hidden=_HIDDEN), list(map(tf.constant, digits(8, _TRAIN_BATCH)))
    want = swept(flow, autodiff.Stored(), cross_entropy)(*batch)[1]
    draw = swept(flow, autodiff.ProjectedForward(directions), cross_entropy)
    size = sum(v.shape.num_elements() for v in trainable(flow))
    return [{"measure": "spread", "directions": directions, "draw": i,
             "squared_error": distance(draw(*batch, seed=tf.constant([i, 1]))[1], want) ** 2,
             "expected": (size + 1) / directions} for i in range(draws)]


def _verdict(memory, seconds, errors, spread):
    """The claims that hold, and those that do not."""
    return told({**_of_memory(memory), **_of_time(seconds), **_of_errors(errors),
                 **_of_spread(spread)})


def _of_memory(memory):
    wide = memory.pivot(index=["model", "channels", "layers"], columns="method", values="peak_mb")
    nets = wide.loc["RevNet"]
    straight = min(_straightness(own.Backprop.droplevel("channels"))
                   for _, own in nets.groupby("channels"))
    deepest = nets[nets.index.get_level_values("layers") == memory.layers.max()]
    claims = {f"Backprop's memory is linear in the layers (r {straight:.3f})": straight > 0.99}
    for name, factor in (("RevBackprop", 2), ("Mixed", 2), ("Moonwalk", 2), ("ProjForward", 2.4)):
        ratio = (deepest.Backprop / deepest[name]).min()
        claims[f"Backprop / {name} memory {ratio:.1f} at {memory.layers.max()} layers "
               f"({factor} in the paper)"] = ratio >= factor
    more = (nets.Mixed / nets.RevBackprop).groupby("channels").last()
    claims[f"Mixed / RevBackprop memory {more.iloc[-1]:.1f} at the most channels (above 1)"] = (
        more.iloc[-1] > 1.1)
    return claims


def _straightness(by_layers):
    """The correlation with the number of layers; not a number for one of them."""
    return np.nan if len(by_layers) < 2 else np.corrcoef(by_layers.index, by_layers)[0, 1]


def _of_time(seconds):
    wide = seconds.pivot(index="layers", columns="method", values="seconds")
    gain, cost = wide.Forward / wide.Moonwalk, (wide.Mixed / wide.Backprop)
    depths = " and ".join(str(3 * layers) for layers in wide.index)
    return {f"Forward / Moonwalk time {_listed(gain)} at {depths} layers (27 and 110)":
            bool((gain >= 10).all()),
            f"Mixed / Backprop time {_listed(cost)} (2)": bool((cost <= 2.5).all())}


def _of_errors(errors):
    finite = errors.assign(error=errors.error.fillna(np.inf))
    worst = finite.groupby(["slope", "method", "seed"]).error.max().groupby(
        ["slope", "method"])
    lowest, highest = worst.min(), worst.max()
    steep, kinds = errors.slope.max(), ("Backprop", "Mixed", "RevBackprop")
    largest = ", ".join(f"{name} {highest[steep, name]:.1e}" for name in kinds)
    plain = highest[0.0].max()
    return {f"no saturation: errors at most {plain:.1e}": plain < 1e-3,
            f"tanh({steep:g} x): RevBackprop fails, Mixed does not (largest errors {largest})":
            lowest[steep, "RevBackprop"] >= _FAILED > highest[steep, "Mixed"]}


def _of_spread(spread):
    ratio = (spread.squared_error / spread.expected).mean()
    return {f"ProjForward's squared error / ((weights + 1) / directions) {ratio:.2f}":
            abs(ratio - 1) < 0.3}


def _listed(ratios):
    return " and ".join(f"{ratio:.3g}" for ratio in ratios)


def _draw(path, memory, seconds, errors, spread):
    cases = list(memory.groupby(["model", "channels"]))
    with figure(path, 2, 4, figsize=(13, 6), squeeze=False) as axes:
        for ax, ((model, channels), own) in zip(axes[0], cases):
            _lines(ax, own, "layers", "peak_mb", list(_ways()))
            ax.set(xlabel="layers of a block", title=f"{model}, {channels} channels",
                   ylabel="peak memory, MB", yscale="log", yticks=(10, 20, 50, 100, 200))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.yaxis.set_minor_formatter("")
        axes[0, 0].set_ylim(top=400)
        axes[0, 0].legend(fontsize=6, loc="upper left")
        _bars(axes[0, 3], seconds)
        for ax, (slope, own) in zip(axes[1], errors.groupby("slope")):
            _draw_errors(ax, own)
            ax.set(title=f"tanh({slope:g} x) after each coupling" if slope else "no saturation")
        axes[1, 0].legend()
        _draw_spread(axes[1, 3], spread)
        for ax in axes.flat:
            ax.set_visible(ax.has_data())


def _lines(ax, own, x, y, names):
    for i, name in enumerate(names):
        rows = own[own.method == name].sort_values(x)
        ax.plot(rows[x], rows[y], marker="o", color=f"C{i}", label=name + (
            " (few directions)" if rows.extrapolated.all() else ""),
            linestyle="--" if rows.extrapolated.all() else "-")


def _bars(ax, seconds):
    """A bar for a method and a depth; what is extrapolated is hatched."""
    names = list(dict.fromkeys(seconds.method))
    for i, (layers, own) in enumerate(seconds.groupby("layers")):
        own = own.set_index("method").reindex(names)
        hatches = ["//" if extrapolated is True else "" for extrapolated in own.extrapolated]
        ax.barh(np.arange(len(names)) + 0.4 * i, own.seconds, 0.4, color=f"C{i}",
                hatch=hatches, label=f"{3 * layers} layers")
    ax.set(yticks=np.arange(len(names)) + 0.2, xscale="log",
           xlabel="seconds (hatched: extrapolated)")
    ax.set_yticklabels(names, fontsize=7)
    ax.legend(fontsize=6)


def _draw_errors(ax, own):
    for i, name in enumerate(("Backprop", "RevBackprop", "Mixed")):
        rows = own[own.method == name]
        error = rows.pivot(index="step", columns="seed", values="error")
        ax.plot(error.index, error.median(axis=1), color=f"C{i}", label=name)
        ax.fill_between(error.index, error.min(axis=1), error.max(axis=1), color=f"C{i}",
                        alpha=0.2, lw=0)
        if not np.isfinite(rows.error).all():
            first = rows[~np.isfinite(rows.error)].step.min()
            ax.text(0.5, 0.6, f"{name}: not finite\nfrom step {first} on", color=f"C{i}",
                    transform=ax.transAxes, ha="center")
    ax.set(xlabel="step", ylabel="error of the gradient", yscale="log")


def _draw_spread(ax, spread):
    by_count = spread.groupby("directions")
    ax.errorbar(by_count.squared_error.mean().index, by_count.squared_error.mean(),
                by_count.squared_error.sem().fillna(0), fmt="o", label="measured")
    ax.plot(by_count.expected.mean(), label="(weights + 1) / directions")
    ax.set(xlabel="directions of ProjForward", ylabel="squared error / $|g|^2$", xscale="log",
           yscale="log")
    ax.legend(fontsize=6)
