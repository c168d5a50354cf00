"""`train`: fit, continue where an earlier run of the workdir stopped, evaluate, sample."""

import os
import pathlib
import sys

import keras

from train import callbacks, checkpoints, data, evaluate, flags, sample
from train.build import build_model, build_optimizer, steps_per_epoch, total_steps
from train.errors import blame_the_input

__all__ = ["train"]


def train(settings):
    """Runs the whole job.

    Raises:
      UserError: unsuitable flags or data.
      NonFinite: the loss is not finite.
      Interrupted: by a signal, after a checkpoint.
    """
    workdir = pathlib.Path(settings.workdir)
    with blame_the_input():
        flags.conflicts(settings, workdir)
        data.load(settings, "train")  # unsuitable data is told before a model is built
        model = build_model(settings)
        model.compile(build_optimizer(settings))
        workdir.mkdir(parents=True, exist_ok=True)
        flags.save(settings, workdir)
    _fit(model, settings, workdir)
    evaluate.evaluate(settings)
    sample.sample(settings)


def _fit(model, settings, workdir):
    checkpoint, saved, path = checkpoints.restore(model, settings, "last")
    step, steps = int(model.optimizer.iterations.numpy()), total_steps(settings)
    if path is not None:
        print(f"continuing from step {step} ({path})", flush=True)
    monitor, unit = ("bpd", "bits/dim") if model.nbits else ("nll", "nats")
    interval = min(settings.val_every or steps_per_epoch(settings), steps)
    keeper = callbacks.Checkpoints(checkpoint, saved, f"val_{monitor}", settings.save_every)
    spent = float(checkpoint.seconds.numpy()) >= 60 * settings.max_minutes > 0
    if step >= steps or spent:
        return
    epoch = step // interval
    limits = callbacks.Limits(keeper, steps, settings.max_minutes)
    with limits.catching_signals():
        model.fit(
            data.load(settings, "train", start=step), initial_epoch=epoch,
            epochs=epoch + -(-(steps - step) // interval), steps_per_epoch=interval,
            validation_data=data.load(settings, "validation"),
            shuffle=False, verbose=1 if sys.stdout.isatty() and "CI" not in os.environ else 0,
            callbacks=[keeper, limits, _Step(),
                       callbacks.Progress(keeper, monitor, unit, steps, settings.max_minutes),
                       *_pictures(model, settings, workdir),
                       keras.callbacks.TensorBoard(workdir / "tensorboard", write_graph=False),
                       keras.callbacks.CSVLogger(workdir / "log.csv", append=True)])


def _pictures(model, settings, workdir):
    if not model.nbits:
        return []
    return [callbacks.SampleGrid(workdir / "tensorboard" / "samples", settings.seed)]


class _Step(keras.callbacks.Callback):
    """Adds the step to the logs that TensorBoard and the CSV get."""

    def on_epoch_end(self, epoch, logs=None):
        logs["step"] = int(self.model.optimizer.iterations.numpy())
