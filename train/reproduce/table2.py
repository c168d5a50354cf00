"""Table 2: what the unbiased estimator and LipSwish each gain."""

import numpy as np
import pandas as pd

from train.reproduce.figure import figure, mean_and_error, save_table
from train.reproduce.runs import run_all

__all__ = ["reproduce"]

_TERMS = {"mnist5k": 10, "photos": 5}
_SMALL = ("--nblocks=2-2-2", "--idim=24", "--val_every=200", "--eval_probes=1", "--n_fc_blocks=2",
          "--n_dist=poisson", "--probe=normal", "--n_sample_images=4", "--max_minutes=0")
_STEPS = {"mnist5k": "--niters=400", "photos": "--niters=300"}


def reproduce(folder, quick):
    """The table as a picture and a csv, and the verdict: is the paper's order there?"""
    seeds, rows, results = (0, 1) if quick else (0, 1, 2), [], {}
    for config, terms in _TERMS.items():
        settings = {"biased, ELU": (f"--n_power_series={terms}", "--act=elu"),
                    "unbiased, ELU": ("--act=elu",), "unbiased, LipSwish": ("--act=swish",)}
        for label, flags in settings.items():
            name = label.replace(", ", "-")
            done = run_all(quick, [(folder / f"{config}-{name}-{seed}", config, *_SMALL,
                                    _STEPS[config], *flags, f"--seed={seed}") for seed in seeds])
            bpd = [own.metrics["bits_per_dim"] for own in done]
            mean, error = results[config, label] = mean_and_error(bpd)
            rows.append({"data": config, "setting": label, "bits_per_dim": mean, "stderr": error,
                         "seeds": len(seeds)})
    table = pd.DataFrame(rows)
    save_table(table, folder / "table2.csv")
    with figure(folder / "table2.png", 1, 2, figsize=(7, 2.6)) as axes:
        for ax, (config, own) in zip(axes, table.groupby("data", sort=False)):
            ax.errorbar(own.bits_per_dim, range(len(own)), xerr=own.stderr, fmt="o")
            ax.set(yticks=range(len(own)), yticklabels=own.setting, ylim=(len(own) - 0.5, -0.5),
                   xlabel="test bits/dim, mean and standard error", title=config)
    return "; ".join(_verdict(config, results) for config in _TERMS)


def _verdict(config, results):
    biased, unbiased, swish = (results[config, label] for label in (
        "biased, ELU", "unbiased, ELU", "unbiased, LipSwish"))

    def gain(worse, better):
        difference, error = worse[0] - better[0], np.hypot(worse[1], better[1])
        return f"{difference:+.4f} +- {error:.4f}", difference > error

    (first, holds), (second, holds_too) = gain(biased, unbiased), gain(unbiased, swish)
    word = "confirmed" if holds and holds_too else "not confirmed"
    return f"{config} {word}: unbiased gains {first} bits/dim, LipSwish {second}"
