"""What a run trains on and is validated by: data, or samples that the model draws."""

import typing

import keras

from train import data
from train.status import saying

__all__ = ["Feed", "check", "feed"]


class Feed(typing.NamedTuple):
    """What Keras is called with.

    Args:
      monitor: name of the score, less is better.
      unit: of the score.
      validation: arguments of `evaluate`.
      training: `(step, callbacks) -> arguments of fit`, which goes on at a step; those of the
        callbacks that look at validations.
      rows: `() -> [x]`, or `[x, context]`: a few rows.
    """

    monitor: str
    unit: str
    validation: dict
    training: typing.Callable
    rows: typing.Callable


def check(settings, strategy):
    """Raises what is wrong with the data, before a model is built."""
    replicas = strategy.num_replicas_in_sync
    if settings.task != "sampling":
        with saying(f"reading {settings.data}"):
            data.load(settings, "train", strategy=strategy)
    elif settings.batchsize % replicas:
        raise ValueError(f"--batchsize must be a multiple of the {replicas} replicas. "
                         f"Received: --batchsize={settings.batchsize}")


def feed(model, settings, strategy):
    """The `Feed` of a compiled model."""
    return (_drawn if settings.task == "sampling" else _of_data)(model, settings, strategy)


def _of_data(model, settings, strategy):
    monitor, unit = ("bpd", "bits/dim") if model.scale_bits is not None else ("nll", "nats")
    if model.head is not None:
        monitor, unit = "loss", "loss"
    join = model.rows_flow.join if model.joins else None
    validation = {"x": data.load(settings, "validation", strategy=strategy, join=join),
                  "steps": data.steps(settings, "validation")}
    return Feed(monitor, unit, validation, lambda step, callbacks: {
        "x": data.load(settings, "train", start=step, strategy=strategy, join=join),
        "validation_data": validation["x"], "validation_steps": validation["steps"],
        "shuffle": False}, lambda: next(iter(data.load(settings, "validation").map(_as_tuple))))


def _as_tuple(x, *context):
    return x, *context


def _drawn(model, settings, strategy):
    validation = {"batch_size": settings.val_batchsize,
                  "steps": -(-settings.n_test // settings.val_batchsize)}
    return Feed("loss", "nats", validation, lambda step, callbacks: {
        "batch_size": settings.batchsize * settings.update_freq,
        "callbacks": [Validation(validation, callbacks)]},
        lambda: [model.sample(8, settings.seed)])


class Validation(keras.callbacks.Callback):
    """Scores a model by samples that it draws, where Keras would score it by data.

    Comes before all callbacks that look at the scores.

    Args:
      validation: arguments of `evaluate`.
      callbacks: that are told of batches of the validation.
    """

    def __init__(self, validation, callbacks):
        super().__init__()
        self._validation, self._callbacks = validation, callbacks

    def on_epoch_end(self, epoch, logs=None):
        scores = self.model.evaluate(**self._validation, verbose=0, return_dict=True,
                                     callbacks=self._callbacks)
        logs.update({f"val_{name}": value for name, value in scores.items()})
