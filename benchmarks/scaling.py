"""How training scales: two processes measured here, and a projection to many GPUs.

    python -m benchmarks.scaling            # both; writes docs/guides/scaling.png, prints tables
    python -m benchmarks.scaling --rounds=3

Measured: an epoch of image-M by one process of one thread and by two of one thread each, and what
a term of the series costs beside the rest of a step. Projected, for the published CIFAR-10 and
CelebA-HQ models: a step on 1 to 1024 GPUs, each with the same batch (weak scaling). A step takes
the arithmetic, in passes through the branch, of the series lengths that are drawn, and a ring
all-reduce of the gradient, none of it hidden:

    2 (R - 1) / R * bytes / bandwidth + 2 (R - 1) * latency

With a number of terms of its own, each replica waits for the one that drew the most.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np

DOCS = pathlib.Path(__file__).parents[1] / "docs" / "guides"
WARM_UP, STEPS = 3, 60  # of an "epoch": 1,920 of image-M's examples
# Channels and side of each scale, blocks a scale, batch of a GPU.
MODELS = {"cifar10": ([(3, 32), (12, 16), (48, 8)], 16, 64, 2, {"fc": (4, 3072, 128)}),
          "celebahq256": ([(12, 128), (24, 64), (48, 32), (96, 16), (192, 8), (384, 4)], 16, 5, 8,
                          {})}


def epoch(index, count, port, seconds_file):
    """A worker: some steps to warm up, then the timed ones; worker 0 writes the seconds."""
    if count > 1:
        cluster = {"worker": [f"127.0.0.1:{port + i}" for i in range(count)]}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": cluster,
                                              "task": {"type": "worker", "index": index}})
    import keras

    from benchmarks import ours
    from benchmarks.workloads import WORKLOADS
    from tfresflow import FlowModel
    from tfresflow.training import optimizers
    from train import cluster as clusters
    from train import data, flags

    settings = flags.parse(["x", "--data=mnist5k", "--batchsize=32",
                            f"--strategy={'multiworker' if count > 1 else 'one'}"])
    group = clusters.form(settings)
    with group.strategy.scope():
        model = FlowModel(ours.build(WORKLOADS["image-M"]), nbits=8)
        model.compile(optimizers.Adam(1e-3, global_clipnorm=1.0))
    batches = data.load(settings, "train", strategy=group.strategy)
    ends = []
    model.fit(batches, steps_per_epoch=WARM_UP + STEPS, epochs=1, verbose=0,
              callbacks=[keras.callbacks.LambdaCallback(
                  on_train_batch_end=lambda batch, logs: ends.append(time.monotonic()))])
    group.total([0])
    if index == 0:
        pathlib.Path(seconds_file).write_text(str(ends[-1] - ends[WARM_UP - 1]))


def measure(rounds):
    """Median seconds of an epoch by one and by two processes of one thread, in turns."""
    seconds = {1: [], 2: []}
    env = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1",
           "OMP_NUM_THREADS": "1"}
    out = DOCS / ".seconds"
    for r in range(rounds):
        for count in seconds:
            command = [sys.executable, "-m", "benchmarks.scaling", "--epoch"]
            workers = [subprocess.Popen([*command, f"{i},{count},{23000 + 10 * r},{out}"], env=env,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                       for i in range(count)]
            errors = [w.communicate()[1] for w in workers]
            if any(w.returncode for w in workers):
                raise RuntimeError(b"\n".join(errors).decode()[-3000:])
            seconds[count].append(float(out.read_text()))
            out.unlink()
            print(f"{count} process(es) of one thread: {seconds[count][-1]:.1f} s", flush=True)
    return {count: float(np.median(values)) for count, values in seconds.items()}


def passes():
    """What a step costs besides its terms, in terms: from steps of 2 and of 34 terms."""
    from benchmarks.run import OURS, worker
    times = [worker(OURS, "step", "growth", changes={"n_terms": n},
                    steps=30)["step"] for n in (2, 34)]
    term = (times[1] - times[0]) / 32
    return times[0] / term - 2


def weights_and_flops(name):
    """Weights, and arithmetic of one pass through all branches for an example."""
    scales, blocks, _, _, options = MODELS[name]
    weights = flops = 0
    for channels, side in scales:
        kernel = 2 * 9 * channels * 512 + 512 * 512
        weights += blocks * (kernel + 2 * 512 + channels + 2 * channels)
        flops += blocks * 2 * kernel * side ** 2
    if "fc" in options:
        count, size, width = options["fc"]
        matrix = 2 * size * width + width ** 2
        weights += count * (matrix + 2 * width + 3 * size)
        flops += count * 2 * matrix
    return weights, flops


def project(name, fixed, tflops, bandwidth, latency, draws=400):
    """`{"gpus", "compute", "reduce", "shared", "own"}`: seconds and efficiencies."""
    scales, blocks, batch, n_exact, _ = MODELS[name]
    weights, flops = weights_and_flops(name)
    unit = batch * flops / (tflops * 1e12)
    count, rng = blocks * len(scales), np.random.RandomState(0)
    gpus, rows = 2 ** np.arange(11), []
    for replicas in gpus:
        terms = np.stack([n_exact + rng.poisson(2.0, [replicas, count]).mean(axis=1)
                          for _ in range(draws)])
        reduce = 2 * (replicas - 1) / replicas * 4 * weights / bandwidth
        reduce += 2 * (replicas - 1) * latency
        compute = unit * (fixed + terms)
        rows.append((compute.mean(), reduce, compute[:, 0].mean() + reduce,
                     compute.max(axis=1).mean() + reduce))
    columns = dict(zip(("compute", "reduce", "shared", "own"), np.array(rows).T))
    return {"gpus": gpus, "weights": weights, **columns}


def plot(projections, path):
    """Efficiency against the number of GPUs."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(projections), figsize=(9, 3.4), sharey=True)
    for ax, (name, p) in zip(axes, projections.items()):
        for key, label in (("shared", "one number of terms for all (as here)"),
                           ("own", "each replica its own")):
            ax.plot(p["gpus"], p["shared"][0] / p[key], "o-", label=label)
        ax.set_xscale("log", base=2)
        ax.set(xlabel="GPUs", title=name, ylim=(0, 1.05))
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("efficiency")
    axes[0].legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tflops", type=float, default=30.0, help="sustained, of a GPU")
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes/s between GPUs")
    parser.add_argument("--latency", type=float, default=5e-6, help="seconds of a message")
    parser.add_argument("--epoch", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.epoch:
        index, count, port, path = options.epoch.split(",")
        epoch(int(index), int(count), int(port), path)
        return
    seconds = measure(options.rounds)
    print(f"image-M, {STEPS} steps: two processes / one: {seconds[2]:.1f} / {seconds[1]:.1f} s = "
          f"{seconds[2] / seconds[1]:.2f}")
    fixed = passes()
    print(f"a step costs as much as {fixed:.1f} terms, and its terms")
    projections = {name: project(name, fixed, options.tflops, options.bandwidth, options.latency)
                   for name in MODELS}
    for name, p in projections.items():
        print(f"\n{name}: {p['weights']:,} weights, {4 * p['weights'] / 1e6:.0f} MB a step")
        print("| GPUs | compute | all-reduce | efficiency | with own numbers of terms |")
        print("|---|---|---|---|---|")
        for i in range(0, 11, 2):
            print(f"| {p['gpus'][i]} | {p['compute'][i]:.3f} s | {p['reduce'][i]:.3f} s | "
                  f"{p['shared'][0] / p['shared'][i]:.2f} | {p['shared'][0] / p['own'][i]:.2f} |")
    plot(projections, DOCS / "scaling.png")


if __name__ == "__main__":
    main()
