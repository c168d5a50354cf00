"""A density of tables: what the columns become, and a trained flow."""

import numpy as np
import pandas as pd
import tensorflow as tf

from bijectors.density.contexts import parted
from bijectors.flows import tabular_flow
from tfresflow import FlowModel, autodiff, logdet

__all__ = ["Fitted", "build", "context_size"]

_ENTRIES = 2 ** 22  # of the Jacobians that are made at once


def build(size, architecture, seed, context_size=None):
    """The `FlowModel` of rows `[size]`, in float64, untrained; of scores, log-dets are exact.

    Args:
      size: number of columns.
      architecture: arguments of `tabular_flow`.
      seed: of the initial weights and of training.
      context_size: numbers in the context of a row, or None.
    """
    flow = tabular_flow(size, **architecture, seed=seed, dtype="float64",
                        context_shape=context_size)
    return FlowModel(flow, eval_log_det=logdet.Exact(), autodiff=autodiff.Stored(), seed=seed)


def context_size(context):
    """Numbers in the context of a row, of its `Columns`; None without."""
    return None if context is None else context.encoded(np.zeros([1, len(context.kinds)])).shape[1]


class Fitted:
    """Scores the cells of tables, and draws tables. Can be pickled.

    Args:
      columns: `Columns`.
      architecture: arguments of `tabular_flow`.
      seed: of the model, and of the noise of the columns.
      weights: arrays, those of the model that `build` makes.
      draws: how many values of the columns' noise are averaged in a score.
      context: `Columns` of those that are the context, or None.
      places: of these in the table.
    """

    def __init__(self, columns, architecture, seed, weights, draws, context=None, places=()):
        self.columns, self._architecture, self._seed = columns, architecture, seed
        self.context, self._places = context, list(places)
        self._draws = draws if columns.are_noisy else 1
        self._set(weights)

    def read(self, table):
        """`(cells, *contexts)` of a table as it was fitted: `[n, D]`, and `[n, K]` if there are."""
        if self.context is None:
            return self.columns.cells(table),
        density, context = parted(table, self._places)
        return self.columns.cells(density), self.context.encoded(self.context.cells(context))

    def log_prob(self, cells, *contexts):
        """`log p(row)`, `[n]`, nats, of cells `[n, D]`; of a context, see `read`, given that."""
        size = max(1, _ENTRIES // cells.shape[1] ** 2)
        total = np.full(len(cells), -np.inf)
        for draw in range(self._draws):
            z, log_slope = self.columns.dequantised(cells, self._seed, draw)
            parts = [self._score(*(t[i:i + size] for t in (z, *contexts))).numpy()
                     for i in range(0, len(z), size)]
            total = np.logaddexp(total, np.concatenate(parts) + log_slope)
        return total - np.log(self._draws)

    def sample(self, count, seed, context=None):
        """A table of `count` rows; with a table of contexts, of as many for each of its rows."""
        given = tf.constant(count), tf.constant([0, seed])
        if self.context is None:
            return self.columns.table(self._draw(*given).numpy())
        cells = self.context.cells(context)
        z = self._draw(*given, self.context.encoded(cells)).numpy().swapaxes(0, 1)
        parts = (self.columns.table(z.reshape(-1, z.shape[-1])),
                 self.context.written(cells.repeat(count, axis=0)))
        order = np.argsort([*np.delete(np.arange(sum(p.shape[1] for p in parts)), self._places),
                            *self._places])
        if isinstance(parts[0], pd.DataFrame):
            return pd.concat(parts, axis=1).iloc[:, order]
        return np.concatenate(parts, axis=1)[:, order]

    def __getstate__(self):
        state = {**vars(self), "_model": self._model.get_weights()}
        return {name: value for name, value in state.items() if name not in ("_score", "_draw")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._set(state["_model"])

    def _set(self, weights):
        """Makes the model that scores, without what training needs."""
        size, width = len(self.columns.kinds), context_size(self.context)
        self._model = build(size, self._architecture, self._seed, width)
        self._model.set_weights(weights)
        contexts = [] if width is None else [tf.TensorSpec([None, width], tf.float64)]

        def score(x, context=None):
            return self._model.log_prob(x, context=context)

        def draw(count, seed, context=None):
            return self._model.sample(count, seed, context=context)

        self._score = tf.function(score, autograph=False, input_signature=[
            tf.TensorSpec([None, size], tf.float64), *contexts])
        self._draw = tf.function(draw, autograph=False, input_signature=[
            tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32), *contexts])
