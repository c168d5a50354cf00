"""Pictures of weighted samples: pairs of coordinates, histograms with errors, fields."""

import numpy as np

from train.plots import BLUE, ORANGE, grid, plt, save

__all__ = ["fields", "histograms", "pairs"]


def pairs(panels, path, names):
    """Saves densities of two coordinates, side by side.

    Args:
      panels: `{title: [n, 2]}`; the last one says what is shown.
      path: of the png.
      names: of the two coordinates.
    """
    *_, last = panels.values()
    ends = [_span(last[:, i]) for i in (0, 1)]
    bins = [np.linspace(*end, 49) for end in ends]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 4.2), squeeze=False)
    for ax, (title, x) in zip(axes[0], panels.items()):
        ax.hist2d(*x.T, bins=bins, cmap="viridis")
        ax.set(title=f"{title} (n = {len(x)})", xlabel=names[0], ylabel=names[1])
        ax.grid(False)
    save(figure, path)


def _span(x, margin=0.1):
    low, high = np.percentile(x, [0.1, 99.9])
    return low - margin * (high - low), high + margin * (high - low)


class Panel:
    """An axis of a picture: points with error bars, and what they are compared with.

    Args:
      label: of the axis.
      x: `[k]`.
      found: `(mean, error)`, `[k]` each, of the flow.
      other: the same of what it is compared with, or `(x', curve)` of what is exactly known.
      name: of the other.
      ylabel: what is shown.
    """

    def __init__(self, label, x, found, other, name, ylabel="density"):
        self.label, self.x, self.found, self.ylabel = label, x, found, ylabel
        self.other, self.name = other, name

    def draw(self, ax):
        if self.name == "exact":
            ax.plot(*self.other, color=ORANGE, label=self.name)
        else:
            ax.errorbar(self.x, *self.other, fmt="s", mfc="none", ms=5, color=ORANGE,
                        label=self.name)
        ax.errorbar(self.x, *self.found, fmt=".", color=BLUE, label="flow, weighted")
        ax.set(xlabel=self.label, ylabel=self.ylabel)


def histograms(panels, path):
    """Saves `Panel`s side by side."""
    figure, axes = plt.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False)
    for ax, panel in zip(axes[0], panels):
        panel.draw(ax)
    axes[0, 0].legend()
    save(figure, path)


def fields(values, path, limit, cmap):
    """Saves fields `[n, L, L]` as one picture, their colours from -limit to limit."""
    shades = np.clip((values + limit) / (2 * limit), 0, 1)
    grid(plt.get_cmap(cmap)(shades)[..., :3], path, scale=6)
