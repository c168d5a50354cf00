"""Settings side by side: the course of their validation, and where they end."""

import pandas as pd

from train.reproduce.figure import figure, mean_and_error, save_table
from train.reproduce.runs import run_all

__all__ = ["compare", "ranking"]


def compare(path, quick, config, settings, seeds, common=()):
    """Trains each setting with each seed; draws mean validation curves and saves the table.

    Args:
      path: of the files, without an ending; runs are kept beside it.
      quick: see `run`.
      config: name of a file in configs/.
      settings: `{label: flags}`.
      seeds: of the runs.
      common: flags of all.

    Returns:
      `{label: (mean, standard error)}` of test bits/dim.
    """
    seeds, rows, results = seeds[:2] if quick else seeds, [], {}
    done = iter(run_all(quick, [
        (path.parent / f"{label.replace(' ', '_')}-{seed}", config, *common, *flags,
         f"--seed={seed}", "--n_sample_images=4") for label, flags in settings.items()
        for seed in seeds]))
    with figure(path.with_suffix(".png"), figsize=(4.6, 3.2)) as ax:
        for i, label in enumerate(settings):
            runs = [next(done) for _ in seeds]
            rows += [{"setting": label, "seed": seed, "step": step, "val_bpd": bpd}
                     for seed, own in zip(seeds, runs)
                     for step, bpd in zip(own.log.step, own.log.val_bpd)]
            rows += [{"setting": label, "seed": seed, "step": own.metrics["step"],
                      "test_bpd": own.metrics["bits_per_dim"]} for seed, own in zip(seeds, runs)]
            results[label] = mean_and_error([own.metrics["bits_per_dim"] for own in runs])
            # By number: after an interruption validations may come a step later.
            curves = pd.concat([own.log.reset_index(drop=True) for own in runs]).groupby(level=0)
            steps, mean = curves.step.mean(), curves.val_bpd.mean()
            spread = curves.val_bpd.sem().fillna(0)
            ax.plot(steps, mean, color=f"C{i}", label=label)
            ax.fill_between(steps, mean - spread, mean + spread, color=f"C{i}", alpha=0.2, lw=0)
        ax.set(xlabel="step", ylabel="validation bits/dim",
               title=f"{config}, {len(seeds)} seeds, mean and standard error")
        low, high = ax.get_ylim()
        ax.set_ylim(low, min(high, low + 0.6 * (high - low)) if not quick else high)
        ax.legend()
    save_table(pd.DataFrame(rows), path.with_suffix(".csv"))
    return results


def ranking(results):
    """`a 1.234 +- 0.005, b ...`, the best first."""
    best_first = sorted(results.items(), key=lambda item: item[1][0])
    return ", ".join(f"{label} {mean:.4f} +- {error:.4f}" for label, (mean, error) in best_first)
