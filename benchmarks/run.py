"""`make bench`: this project and normflows (PyTorch) side by side.

Every measurement is a process of its own; the libraries take turns, several rounds, and what is
compared are medians of one run. Writes results.json, table.md and growth.png beside this file;
with --only, what was measured before stays in them.

python -m benchmarks.run [--only=step,toy,...] [--rounds=3] [--minutes=10]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import matplotlib
import matplotlib.ticker
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

HERE = pathlib.Path(__file__).parent
OURS, PEERS = "tfresflow", ("normflows", "normflows-reduced")


def worker(library, measure, workload, **options):
    """One measurement, a dictionary."""
    command = [sys.executable, "-m", "benchmarks.worker", library, measure, workload,
               json.dumps(options)]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{library:18} {measure:8} {workload:8} {result}", flush=True)
    return result


def alternate(libraries, rounds, *args, **options):
    """`{library: {quantity: median over the rounds}}`, the libraries taking turns."""
    results = {library: [] for library in libraries}
    for _ in range(rounds):
        for library in libraries:
            results[library].append(worker(library, *args, **options))
    return {library: {key: float(np.median([r[key] for r in runs]))
                      for key, value in runs[0].items() if isinstance(value, float)}
            for library, runs in results.items()}


def step(options):
    """image-M, a training step."""
    return alternate((OURS, *PEERS), options.rounds, "step", "image-M")


def toy(options):
    """toy-T, a training step."""
    return alternate((OURS, *PEERS), options.rounds, "step", "toy-T", steps=15)


def cifar10(options):
    """The first step of the full CIFAR-10 architecture."""
    return worker(OURS, "step", "cifar10", steps=2)


def sample(options):
    """64 samples of image-M after 200 steps, the same weights in both."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/weights.npz"
        worker(OURS, "train", "image-M", steps=200, path=path)
        return alternate((OURS, PEERS[0]), options.rounds, "sample", "image-M", path=path,
                         residual=1e-5)


def log_prob(options):
    """TransformedDistribution against the pair itself."""
    return worker(OURS, "log_prob", "image-M")


def quality(options):
    """The demo's model: test bits/dim against minutes of training, until ours is where it was."""
    minutes = options.minutes
    theirs = worker(PEERS[0], "quality", "demo", minutes=minutes, every=minutes / 10)
    ours = worker(OURS, "quality", "demo", minutes=minutes, every=minutes / 40,
                  target=theirs["curve"][-1][1])
    return {OURS: ours, PEERS[0]: theirs}


GROWTH = {"blocks": [{"nblocks": [n]} for n in (4, 16, 64)],
          "terms n": [{"n_terms": n} for n in (2, 8, 32, 64)],
          "batch size": [{"batch": n} for n in (8, 32, 128)]}


def growth(options):
    """Time and peak memory of a step against depth, terms and batch, a small model."""
    return {axis: {library: [{"at": int(np.ravel(list(change.values()))[0]),
                              **worker(library, "step", "growth", steps=8, changes=change)}
                             for change in changes] for library in (OURS, *PEERS)}
            for axis, changes in GROWTH.items()}


def table(results):
    """Rows `(what, value, target, met)` of what has been measured."""
    rows = []

    def row(what, value, target, form="{:.2f}"):
        rows.append((what, form.format(value), form.format(target),
                     "yes" if value <= target else "no"))

    if "step" in results:
        ours, fast, small = (results["step"][name] for name in (OURS, *PEERS))
        row("image-M, time a step / the faster of normflows' modes",
            ours["step"] / min(fast["step"], small["step"]), 0.5)
        row("image-M, peak memory above imports / normflows `reduce_memory=True`",
            ours["memory"] / small["memory"], 0.5)
        row("image-M, first step, cold, seconds", ours["first_step"], 15, "{:.1f}")
    if "toy" in results:
        row("toy-T, time a step / normflows", results["toy"][OURS]["step"] / min(
            results["toy"][peer]["step"] for peer in PEERS), 0.25)
    if "cifar10" in results:
        row("full CIFAR-10 architecture, batch 2, first step, cold, seconds",
            results["cifar10"]["first_step"], 60, "{:.1f}")
    if "quality" in results:
        ours, theirs = (results["quality"][name]["curve"] for name in (OURS, PEERS[0]))
        reached = [minutes for minutes, bits in ours if bits <= theirs[-1][1]]
        row(f"bits/dim that normflows reaches in {theirs[-1][0]:.0f} minutes "
            f"({theirs[-1][1]:.3f}): minutes needed for it",
            min(reached, default=float("inf")), 4, "{:.1f}")
    if "sample" in results:
        row("64 samples of image-M to residual 1e-5 / normflows",
            results["sample"][OURS]["sample"] / results["sample"][PEERS[0]]["sample"], 0.5)
    if "log_prob" in results:
        row("`dist.log_prob` through TransformedDistribution / `forward_and_log_det`",
            results["log_prob"]["distribution"] / results["log_prob"]["pair"], 1.1)
    return rows


def plot_growth(results, path):
    """Two rows (time, memory), a column for each thing that grows."""
    colours = dict(zip((OURS, *PEERS), ("#0072b2", "#d55e00", "#009e73")))
    figure, axes = plt.subplots(2, len(results), figsize=(11, 6), layout="constrained",
                                sharex="col", sharey="row")
    for column, (axis, lines) in enumerate(results.items()):
        for library, points in lines.items():
            at = [point["at"] for point in points]
            for ax, key in zip(axes[:, column], ("step", "memory")):
                ax.plot(at, [point[key] for point in points], "o-", color=colours[library],
                        label=library)
                ax.set(xscale="log", yscale="log")
                ax.set_xticks(at, [str(a) for a in at])
                ax.minorticks_off()
                ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
                ax.yaxis.set_major_formatter("{x:g}")
        axes[1, column].set_xlabel(axis)
    axes[0, 0].set_ylabel("seconds a step")
    axes[1, 0].set_ylabel("peak memory above imports, MB")
    axes[0, 0].legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


MEASUREMENTS = {f.__name__: f for f in (step, toy, sample, log_prob, cifar10, growth, quality)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(MEASUREMENTS), help="which measurements")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, for `quality`")
    options = parser.parse_args()
    subprocess.run([sys.executable, "-m", "benchmarks.same_function"], cwd=HERE.parent, check=True,
                   stderr=subprocess.DEVNULL)
    path = HERE / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in options.only.split(","):
        results[name] = MEASUREMENTS[name](options)
        path.write_text(json.dumps(results, indent=1) + "\n")
    lines = ["| | measured | target | met |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in table(results)]
    (HERE / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if "growth" in results:
        plot_growth(results["growth"], HERE / "growth.png")


if __name__ == "__main__":
    main()
