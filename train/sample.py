"""`sample`: pictures of what the model has learned."""

import pathlib

import numpy as np
import pandas as pd
import tensorflow as tf

from train import data, plots
from train.errors import blame_the_input
from train.solving import solving

__all__ = ["sample"]


def sample(model, settings):
    """Draws samples and writes pictures beside the run.

    Images: samples.png and, of real ones, data.png. Toy densities: density.png. Tables:
    samples.csv and columns.png, in units and names of the file. All: curve.png, the course of
    training.

    Args:
      model: as `checkpoints.loaded` gives it.
      settings: the flags.
    """
    workdir = pathlib.Path(settings.workdir)
    with blame_the_input():
        kind = data.describe(settings).kind
    draw = {"image": _images, "vector": _table, "toy": _density}[kind]
    written = draw(model, settings, workdir)
    unit = "bits/dim" if kind == "image" else "nats"
    if (workdir / "log.csv").exists():
        plots.curve(workdir / "log.csv", workdir / "curve.png", unit)
        written.append("curve.png")
    print("wrote " + ", ".join(str(workdir / n) for n in written if (workdir / n).exists()),
          flush=True)


def _draw(model, settings, count):
    seed = settings.seed if settings.sample_seed == -1 else settings.sample_seed
    draw = tf.function(lambda n: model.sample(n, seed, settings.temperature), autograph=False)
    with solving():
        return draw(count).numpy()


def _images(model, settings, workdir):
    plots.grid(_draw(model, settings, settings.n_sample_images), workdir / "samples.png")
    plots.grid(_real(settings, settings.n_sample_images), workdir / "data.png")
    return ["samples.png", "data.png"]


def _table(model, settings, workdir):
    real, scaler = _real(settings, 10000), data.describe(settings).scaler
    samples = _draw(model, settings, max(len(real), settings.n_sample_images))
    names = data.column_names(real.shape[1])  # an array has none, and is taken as it is
    if scaler is not None:
        names, real, samples = scaler.columns, scaler.original(real), scaler.original(samples)
    table = pd.DataFrame(samples[:settings.n_sample_images], columns=names)
    table.to_csv(workdir / "samples.csv", index=False)
    plots.columns(real, samples, names, workdir / "columns.png")
    return ["samples.csv", "columns.png"]


def _density(model, settings, workdir):
    real = _real(settings, 10000)
    score = tf.function(lambda x: model.log_prob(x, settings.seed), autograph=False)
    plots.density(real, _draw(model, settings, len(real)), lambda x: score(x).numpy(),
                  workdir / "density.png", settings.data)
    return ["density.png"]


def _real(settings, count):
    batches, have = [], 0
    for x in data.load(settings, "test").as_numpy_iterator():
        batches.append(x)
        have += len(x)
        if have >= count:
            break
    return np.concatenate(batches)[:count]
