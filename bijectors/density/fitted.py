"""A density of tables: what the columns become, and a trained flow."""

import numpy as np
import tensorflow as tf

from bijectors.flows import tabular_flow
from tfresflow import FlowModel, autodiff, logdet

__all__ = ["Fitted", "build"]

_ENTRIES = 2 ** 22  # of the Jacobians that are made at once


def build(size, architecture, seed):
    """The `FlowModel` of rows `[size]`, in float64, untrained; of scores, log-dets are exact.

    Args:
      size: number of columns.
      architecture: arguments of `tabular_flow`.
      seed: of the initial weights and of training.
    """
    flow = tabular_flow(size, **architecture, seed=seed, dtype="float64")
    return FlowModel(flow, eval_log_det=logdet.Exact(), autodiff=autodiff.Stored(), seed=seed)


class Fitted:
    """Scores the cells of tables, and draws tables. Can be pickled.

    Args:
      columns: `Columns`.
      architecture: arguments of `tabular_flow`.
      seed: of the model, and of the noise of the columns.
      weights: arrays, those of the model that `build` makes.
      draws: how many values of the columns' noise are averaged in a score.
    """

    def __init__(self, columns, architecture, seed, weights, draws):
        self.columns, self._architecture, self._seed = columns, architecture, seed
        self._draws = draws if columns.are_noisy else 1
        self._set(weights)

    def log_prob(self, cells):
        """`log p(row)`, `[n]`, nats, of cells `[n, D]`."""
        size = max(1, _ENTRIES // cells.shape[1] ** 2)
        total = np.full(len(cells), -np.inf)
        for draw in range(self._draws):
            z, log_slope = self.columns.dequantised(cells, self._seed, draw)
            parts = [self._score(z[i:i + size]).numpy() for i in range(0, len(z), size)]
            total = np.logaddexp(total, np.concatenate(parts) + log_slope)
        return total - np.log(self._draws)

    def sample(self, count, seed):
        """A table of `count` rows."""
        return self.columns.table(self._draw(tf.constant(count), tf.constant([0, seed])).numpy())

    def __getstate__(self):
        state = {**vars(self), "_model": self._model.get_weights()}
        return {name: value for name, value in state.items() if name not in ("_score", "_draw")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._set(state["_model"])

    def _set(self, weights):
        """Makes the model that scores, without what training needs."""
        size = len(self.columns.kinds)
        self._model = build(size, self._architecture, self._seed)
        self._model.set_weights(weights)
        self._score = tf.function(self._model.log_prob, autograph=False, input_signature=[
            tf.TensorSpec([None, size], tf.float64)])
        self._draw = tf.function(self._model.sample, autograph=False, input_signature=[
            tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)])
