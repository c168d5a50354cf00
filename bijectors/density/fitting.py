"""Trains a flow on weighted rows, until held-out rows get no likelier."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from bijectors.density.fitted import build
from tfresflow.training import optimizers

__all__ = ["Training", "distinct", "trained"]


@dataclasses.dataclass(frozen=True)
class Training:
    """How a flow is trained; see `FlowDensity`."""

    noise: float
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_steps: int
    validate_every: int
    patience: int
    validation_fraction: float
    draws: int


def distinct(cells, weights):
    """`(cells, weights)` of the different rows, in an order of their own, weights added up."""
    cells, places = np.unique(cells, axis=0, return_inverse=True)
    return cells, np.bincount(places.ravel(), weights)


def trained(columns, architecture, seed, cells, weights, training, contexts=None):
    """Trains a model of cells `[n, D]` with weights `[n]`.

    Args:
      columns: `Columns`.
      architecture: arguments of `tabular_flow`.
      seed: of all that is random.
      cells, weights: of the table.
      training: a `Training`.
      contexts: `[n, K]`, what the flow is given of the context of each row; None: it takes none.

    Returns:
      `(weights of the model, steps)`: those with which the held-out rows were likeliest, and how
      many steps were made until then.
    """
    random = np.random.RandomState(seed)
    own, held_out = _parted(len(cells), training.validation_fraction, random)
    size = training.batch_size if columns.are_noisy else min(training.batch_size, len(own))
    draws = training.draws if columns.are_noisy else 1
    validation = np.concatenate([columns.dequantised(cells[held_out], seed, k)[0]
                                 for k in range(draws)])

    def noisy(indices):
        z, _ = columns.forward(cells[own[indices]], random.uniform(size=(len(indices), width)))
        z += training.noise * random.normal(size=z.shape)
        return z if contexts is None else (z, contexts[own[indices]])

    width, size_of_context = cells.shape[1], None if contexts is None else contexts.shape[1]
    model = build(width, architecture, seed, size_of_context)
    model.compile(optimizers.Adam(training.learning_rate, weight_decay=training.weight_decay,
                                  global_clipnorm=1.0, use_ema=True, ema_momentum=0.98))
    model.initialize(noisy(np.arange(len(own))))
    stream = map(noisy, _batches(weights[own], size, random))
    signature = tf.TensorSpec([size, width], tf.float64)
    if contexts is not None:
        signature = signature, tf.TensorSpec([size, size_of_context], tf.float64)
        validation = validation, np.tile(contexts[held_out], [draws, 1])
    history = model.fit(
        tf.data.Dataset.from_generator(lambda: stream, output_signature=signature),
        steps_per_epoch=training.validate_every, shuffle=False, verbose=0,
        epochs=-(-training.max_steps // training.validate_every),
        validation_data=(validation, None, np.tile(weights[held_out], draws)),
        validation_batch_size=1024, callbacks=[keras.callbacks.EarlyStopping(
            "val_nll", mode="min", patience=training.patience, restore_best_weights=True)])
    best = int(np.argmin(history.history["val_nll"]))
    return model.get_weights(), (best + 1) * training.validate_every


def _parted(count, fraction, random):
    """Indices of training and of held-out rows; at least one row is in each."""
    order = random.permutation(count)
    held_out = min(max(1, round(fraction * count)), count - 1)
    return order[held_out:], order[:held_out]


def _batches(weights, size, random):
    """Indices of batches without end, each row as often as its weight says.

    A pass is as many batches as the rows need. In it, a row is drawn floor or ceil as often as its
    share of the weight asks for (systematic sampling): with equal weights, all are seen.
    """
    count = size * -(-len(weights) // size)
    while True:
        order = random.permutation(len(weights))
        ends = np.cumsum(weights[order])
        points = (np.arange(count) + random.uniform()) * (ends[-1] / count)
        drawn = order[np.minimum(np.searchsorted(ends, points, side="right"), len(order) - 1)]
        yield from random.permutation(drawn).reshape(-1, size)
