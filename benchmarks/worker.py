"""One measurement of one library in a process of its own: prints one line of JSON.

python -m benchmarks.worker LIBRARY MEASURE WORKLOAD [JSON of options]
"""

import dataclasses
import json
import pathlib
import sys
import time

import numpy as np

from benchmarks.workloads import WORKLOADS

LIBRARIES = ("tfresflow", "normflows", "normflows-reduced")


def main(library, measure, workload, options="{}"):
    options = json.loads(options)
    fields = {key: tuple(v) if isinstance(v, list) else v
              for key, v in options.pop("changes", {}).items()}
    workload = dataclasses.replace(WORKLOADS[workload], **fields)
    measured = MEASURES[measure](_side(library), workload, **options)
    print(json.dumps({"library": library, "measure": measure, **measured}))


def _side(library):
    """`(module, trainer of a workload)`, imported and ready to compute."""
    if library == "tfresflow":
        import tensorflow as tf

        from benchmarks import ours
        from tfresflow.batches import threads
        threads.prepare()  # as `train` does
        tf.constant(1.0) + 1.0
        return ours, ours.Trainer
    from benchmarks import peer
    return peer, lambda workload, **kwargs: peer.Trainer(
        workload, reduce_memory=library == "normflows-reduced", **kwargs)


def _megabytes():
    """Peak resident memory so far (Linux). `ru_maxrss` would begin at that of the parent."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _example(workload):
    return np.random.RandomState(0).rand(workload.batch, *workload.event_shape).astype("float32")


def step(side, workload, steps=30):
    """Seconds to the end of the first step, then the median; peak memory above the imports'."""
    x, baseline, began = _example(workload), _megabytes(), time.monotonic()
    trainer = side[1](workload)
    trainer.step(x)
    first = time.monotonic() - began
    seconds = []
    for _ in range(steps):
        began = time.monotonic()
        trainer.step(x)
        seconds.append(time.monotonic() - began)
    return {"first_step": first, "step": float(np.median(seconds)),
            "memory": _megabytes() - baseline}


def train(side, workload, steps, path):
    """Trains on mnist5k and saves the weights, for `sample`."""
    module, trainer = side[0], side[1](workload)
    for x, _ in zip(_images(workload, "train"), range(steps)):
        trainer.step(x)
    np.savez(path, *module.weights(trainer.model.flow))
    return {}


def sample(side, workload, path, residual, count=64):
    """Seconds for samples whose every block is solved to `max |z - g(x) - x| <= residual`."""
    with np.load(path) as file:
        arrays = [file[f"arr_{i}"] for i in range(len(file.files))]
    draw = side[0].sampler(workload, arrays, residual)
    z = np.random.RandomState(1).randn(count, int(np.prod(workload.event_shape)))
    z, seconds = z.astype("float32"), []
    for _ in range(5):
        began = time.monotonic()
        x, reached = draw(z)
        seconds.append(time.monotonic() - began)
    return {"sample": float(np.median(seconds[1:])), "residual": reached,
            "mean": float(x.mean()), "std": float(x.std())}


def quality(side, workload, minutes, every, target=-np.inf):
    """Test bits/dim on mnist5k against minutes of training, evaluation not counted.

    Ends after so many minutes, or at the target.
    """
    trainer, curve = side[1](workload, lr=2e-3), []
    test = np.concatenate(list(_images(workload, "test")))
    spent, due = 0.0, every
    for x in _images(workload, "train"):
        began = time.monotonic()
        trainer.step(x)
        spent += time.monotonic() - began
        if spent >= 60 * due:
            curve.append((round(spent / 60, 3), trainer.bits_per_dim(test)))
            print(curve[-1], file=sys.stderr, flush=True)
            due += every
        if spent >= 60 * minutes or (curve and curve[-1][1] <= target):
            return {"curve": curve}


def log_prob(side, workload, repeats=30):
    """`dist.log_prob` of a `TransformedDistribution` against the flow's own pair, seconds."""
    return side[0].log_prob_seconds(workload, _example(workload), repeats)


def _images(workload, split):
    """The demo's data, in the demo's order."""
    from train import data, flags

    settings = flags.parse(["x", "--data=mnist5k", f"--batchsize={workload.batch}",
                            "--val_batchsize=100"])
    return data.load(settings, split).as_numpy_iterator()


MEASURES = {f.__name__: f for f in (step, train, sample, quality, log_prob)}

if __name__ == "__main__":
    main(*sys.argv[1:])
