"""`sample`: pictures of what the model has learned."""

import pathlib

import numpy as np
import pandas as pd
import tensorflow as tf

from train import data, plots
from train.build import describe
from train.errors import blame_the_input
from train.sampling.show import show
from train.solving import solving

__all__ = ["sample"]


def sample(model, settings):
    """Draws samples and writes pictures beside the run.

    Images: samples.png (of a conditional model a row for each class) and, of real ones, data.png.
    Toy densities: density.png. Tables: samples.csv and columns.png, in units and names of the file.
    Targets: see `show`. All: curve.png, the course of training.

    Args:
      model: as `checkpoints.loaded` gives it.
      settings: the flags.
    """
    workdir = pathlib.Path(settings.workdir)
    with blame_the_input():
        kind = describe(settings).kind
    draw = show if settings.task == "sampling" else {
        "image": _images, "vector": _table, "toy": _density}[kind]
    written = draw(model, settings, workdir)
    unit = "loss" if model.head is not None else "bits/dim" if kind == "image" else "nats"
    if (workdir / "log.csv").exists():
        plots.curve(workdir / "log.csv", workdir / "curve.png", unit)
        written.append("curve.png")
    print("wrote " + ", ".join(str(workdir / n) for n in written if (workdir / n).exists()),
          flush=True)


def _draw(model, settings, count, context=None):
    """`[count, ...]`, of a batch of contexts `[count, B, ...]`."""
    seed = settings.seed if settings.sample_seed == -1 else settings.sample_seed
    given = {} if context is None else {"context": tf.constant(context)}
    draw = tf.function(lambda n: model.sample(n, seed, settings.temperature, **given),
                       autograph=False)
    with solving():
        return draw(count).numpy()


def _images(model, settings, workdir):
    count, across = settings.n_sample_images, None
    if model.is_conditional:  # a row for each class, of as many classes as there are samples
        classes, = model.flow.context_shape
        across = max(1, count // classes)
        samples = _draw(model, settings, across, np.eye(classes, dtype=np.float32)[:count])
        samples = samples.swapaxes(0, 1).reshape(-1, *samples.shape[2:])
    else:
        samples = _draw(model, settings, count)
    samples, real = (plots.pixels(x, model.flow.nbits) for x in (
        samples, _real(settings, count)[0]))
    plots.grid(samples, workdir / "samples.png", across=across)
    plots.grid(real, workdir / "data.png")
    return ["samples.png", "data.png"]


def _table(model, settings, workdir):
    (real, *context), source = _real(settings, 10000), data.describe(settings)
    context = context if model.is_conditional else []  # else labels
    count = max(len(real), settings.n_sample_images)
    # At the contexts of the test part, again and again.
    context = [np.resize(c, [count, *c.shape[1:]]) for c in context]
    samples = _draw(model, settings, 1, *context)[0] if context else _draw(model, settings, count)
    names = data.column_names(real.shape[1])  # an array has none, and is taken as it is
    if source.scaler is not None:
        names = source.scaler.columns
        real, samples = map(source.scaler.original, (real, samples))
    table = pd.DataFrame(samples[:settings.n_sample_images], columns=names)
    if source.classes and context:
        codes = context[0][:len(table)].argmax(axis=1)
        table[settings.labels if settings.data == "csv" else "label"] = np.array(
            source.classes)[codes]
    elif context:
        scaler = source.context_scaler
        table[list(scaler.columns)] = scaler.original(context[0])[:len(table)]
    table.to_csv(workdir / "samples.csv", index=False)
    plots.columns(real, samples, names, workdir / "columns.png")
    return ["samples.csv", "columns.png"]


def _density(model, settings, workdir):
    [real] = _real(settings, 10000)
    score = tf.function(lambda x: model.log_prob(x, settings.seed), autograph=False)
    plots.density(real, _draw(model, settings, len(real)), lambda x: score(x).numpy(),
                  workdir / "density.png", settings.data)
    return ["density.png"]


def _real(settings, count):
    """`[x]` of the test part, or `[x, context]`."""
    batches, have = [], 0
    for batch in data.load(settings, "test").as_numpy_iterator():
        batches.append(batch if isinstance(batch, tuple) else (batch,))
        have += len(batches[-1][0])
        if have >= count:
            break
    return [np.concatenate(parts)[:count] for parts in zip(*batches)]
