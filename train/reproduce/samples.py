"""Figure 5: real images above samples, for each image config that trains without a download."""

import matplotlib.image
import pandas as pd

from train.reproduce.figure import figure, save_table
from train.reproduce.runs import run

__all__ = ["reproduce"]

_MINUTES = {"digits": 2, "mnist5k": 5, "photos": 5}


def reproduce(folder, quick):
    """The grids, a csv of bits/dim, and the verdict."""
    rows = []
    with figure(folder / "samples.png", 2, 3, figsize=(9, 6.2)) as axes:
        for column, (config, minutes) in zip(axes.T, _MINUTES.items()):
            done = run(folder / config, quick, config, f"--max_minutes={minutes}",
                       needs=("metrics.json", "data.png", "samples.png"))
            rows.append({"config": config, "steps": done.metrics["step"],
                         "bits_per_dim": done.metrics["bits_per_dim"],
                         "histogram_bits_per_dim": done.metrics["histogram_bits_per_dim"]})
            for ax, what in zip(column, ("data", "samples")):
                ax.imshow(matplotlib.image.imread(done.workdir / f"{what}.png"))
                ax.set(xticks=[], yticks=[], title=f"{config}: {what}")
                ax.grid(False)
    table = pd.DataFrame(rows)
    save_table(table, folder / "samples.csv")
    below = (table.bits_per_dim < table.histogram_bits_per_dim).sum()
    return (f"{below} of {len(table)} models are below the histogram of each pixel: " + ", ".join(
        f"{row.config} {row.bits_per_dim:.3f} bits/dim after {row.steps} steps"
        for row in table.itertuples()))
