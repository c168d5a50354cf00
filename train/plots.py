"""Pictures: grids of images, densities in the plane, columns of a table, the course of training."""

import math
import pathlib

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

__all__ = ["BLUE", "ORANGE", "columns", "curve", "density", "grid", "norms", "pixels", "plt",
           "save", "scores", "tile"]

plt.style.use(pathlib.Path(__file__).with_name("style.mplstyle"))
BLUE, ORANGE = "C0", "C1"


def tile(images, pad=1, across=None):
    """`[n, H, W, C]` in [0, 1] to one picture `[rows (H + pad) + pad, ..., 3]` in [0, 1].

    `across`: how many in a row; None: as many as rows.
    """
    images = np.clip(images, 0, 1)
    if images.shape[-1] != 3:
        images = np.repeat(images[..., :1], 3, axis=-1)
    n, height, width, _ = images.shape
    across = across or math.ceil(math.sqrt(n))
    rows = math.ceil(n / across)
    picture = np.ones((rows * (height + pad) + pad, across * (width + pad) + pad, 3), np.float32)
    for i, image in enumerate(images):
        top, left = (pad + k * (size + pad) for k, size in zip(divmod(i, across), (height, width)))
        picture[top:top + height, left:left + width] = image
    return picture


def pixels(images, nbits):
    """Images in [0, 1]: of levels of `nbits` bits; None: they are in it."""
    return images if nbits is None else images / (2 ** nbits - 1)


def grid(images, path, scale=3, across=None):
    """Saves images `[n, H, W, C]` in [0, 1] as a png grid, each pixel `scale` wide."""
    picture = tile(images, across=across)
    plt.imsave(path, picture.repeat(scale, axis=0).repeat(scale, axis=1))


def density(data, samples, log_prob, path, title):
    """Saves data, samples and the density of a two-dimensional model, side by side.

    Args:
      data, samples: `[n, 2]`.
      log_prob: `[N, 2] -> [N]`, nats.
      path: of the png.
      title: what the density is of.
    """
    limit = 1.1 * np.abs(data).max()
    side = np.linspace(-limit, limit, 200, dtype=np.float32)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = np.exp(log_prob(points)).reshape(200, 200)
    figure, axes = plt.subplots(1, 3, figsize=(12, 4.2))
    bins = [np.linspace(-limit, limit, 121)] * 2
    axes[0].hist2d(*data.T, bins=bins, cmap="viridis")
    axes[0].set_title(f"data ({title}, n = {len(data)})")
    axes[1].hist2d(*samples.T, bins=bins, cmap="viridis")
    axes[1].set_title(f"samples of the model (n = {len(samples)})")
    shown = axes[2].imshow(values, extent=(-limit, limit) * 2, origin="lower", cmap="viridis")
    axes[2].set_title("density of the model")
    figure.colorbar(shown, ax=axes[2], label="p(x)", shrink=0.8)
    for ax in axes:
        ax.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
        ax.grid(False)
    save(figure, path)


def columns(data, samples, names, path, most=6):
    """Saves histograms of the first columns of data and samples `[n, D]`, called `names`."""
    count = min(most, data.shape[1])
    figure, axes = plt.subplots(1, count, figsize=(2.6 * count, 2.8),
                                squeeze=False)
    for i, ax in enumerate(axes[0]):
        # From a row to a row: of a few, all are within.
        low, high = (float(np.percentile(data[:, i], percent, method=method))
                     for percent, method in ((0.5, "lower"), (99.5, "higher")))
        # In float64, and of some width where nearly all rows have one value.
        bins = np.linspace(low, high if high > low else low + max(1.0, abs(low)), 40)
        for values, colour, label in ((data, BLUE, "data"), (samples, ORANGE, "samples")):
            # Densities of all rows: `density=True` would be of those within, which may be none.
            weights = np.full(len(values), 1 / (len(values) * (bins[1] - bins[0])))
            ax.hist(values[:, i], bins, weights=weights, histtype="step", color=colour, label=label)
        ax.set_xlabel(names[i].replace("$", r"\$"))  # else matplotlib sets it as a formula
        ax.set_ylabel("density" if i == 0 else "")
    axes[0, 0].legend()
    save(figure, path)


def scores(inside, outside, labels, path, names):
    """Saves histograms of scores of two samples, an axis for each score.

    Args:
      inside, outside: data frames with a column for each score.
      labels: `{column: label of the axis}`.
      path: of the png.
      names: of the two samples.
    """
    figure, axes = plt.subplots(1, len(labels), figsize=(4.2 * len(labels), 3), squeeze=False)
    for ax, (column, label) in zip(axes[0], labels.items()):
        both = np.concatenate([inside[column], outside[column]])
        low, high = np.percentile(both, [0.5, 99.5])
        bins = np.linspace(low, high if high > low else low + max(1.0, abs(low)), 50)
        for values, colour, name in zip((inside, outside), (BLUE, ORANGE), names):
            # What lies farther out is in the first bin and in the last.
            ax.hist(np.clip(values[column], bins[0], bins[-1]), bins, alpha=0.6, color=colour,
                    weights=np.full(len(values), 1 / len(values)), label=pathlib.Path(name).name)
        ax.set(xlabel=label)
    axes[0, 0].set(ylabel="share of the examples")
    axes[0, 0].legend()
    save(figure, path)


def curve(log, path, unit):
    """Saves the course of training from a run's log.csv; nothing to draw gives no file."""
    if not pathlib.Path(log).stat().st_size:
        return
    # A run that was killed may have left half a line, or a validation without training's metrics.
    table = pd.read_csv(log, on_bad_lines="skip", encoding_errors="replace")
    name = next((n for n in ("bpd", "nll") if n in table and "accuracy" not in table), "loss")
    if not {"step", name, f"val_{name}"} <= set(table):
        return
    table = table.apply(pd.to_numeric, errors="coerce").dropna(subset=["step", f"val_{name}"])
    if len(table) < 2:
        return
    sizes = "val_ess" in table
    figure, axes = plt.subplots(1 + sizes, figsize=(6, 3.6 + 2.4 * sizes), squeeze=False,
                                sharex=True)
    ax = axes[0, 0]
    for which, axis in ((name, ax), ("ess", axes[-1, 0]))[:1 + sizes]:
        axis.plot(table["step"], table[which], color=BLUE, label="training")
        axis.plot(table["step"], table["val_" + which], color=ORANGE, label="validation")
        axis.set(ylabel="effective sample size", ylim=(0, 1))
    low, high = np.nanmin(table[name]), np.nanpercentile(table[name], 95)
    axes[-1, 0].set(xlabel="step")
    ax.set(ylabel=unit, ylim=(low - 0.05 * (high - low), high + 0.3 * (high - low)))
    ax.legend()
    save(figure, path)


def norms(report, path):
    """Saves norms, bounds and orders of a `NormReport`, a place on the axis for each layer."""
    rows = report.layers
    place = np.arange(len(rows))
    finite = [min(row.codomain, 10.0) for row in rows]
    mixed = len({(row.domain, row.codomain) for row in rows}) > 1
    figure, axes = plt.subplots(1 + mixed, figsize=(8, 3 + 2 * mixed),
                                squeeze=False, sharex=True)
    top = axes[0, 0]
    top.plot(place, [row.bound for row in rows], "_", color=ORANGE, ms=8, mew=2,
             label="proven bound")
    top.plot(place, [row.measured for row in rows], ".", color=BLUE, label="measured")
    top.plot(place, [report.blocks[row.block] for row in rows], color="0.5", lw=1,
             drawstyle="steps-mid", label="proven bound of the block")
    top.axhline(1, color="black", lw=0.6)
    top.set(ylabel="norm", ylim=(0, 1.1 * max(1, *(row.bound for row in rows))))
    top.legend(ncols=3, loc="lower right")
    if mixed:
        axes[1, 0].plot(place, finite, ".", color=BLUE)
        axes[1, 0].set(ylabel="order after the layer",
                       ylim=(min(1.4, min(finite) - 0.2), max(2.6, max(finite) + 0.2)))
    axes[-1, 0].set(xlabel="layer, in the order in which data meets them")
    save(figure, path)


def save(figure, path):
    """Saves a figure, and lets it go."""
    figure.savefig(path, dpi=120)
    plt.close(figure)
