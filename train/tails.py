"""A run whose estimates are not to be relied on says so."""

import sys

import keras

from bijectors import heavy_tails

__all__ = ["Tails"]


class Tails(keras.callbacks.Callback):
    """Says once, after a validation, for which blocks draws of the number of terms are too rare.

    Args:
      x: a few rows of data.
      rule: the law for the number of terms.
      context: of a conditional flow, those of the rows.
    """

    def __init__(self, x, rule, context=None):
        super().__init__()
        self._x, self._rule, self._context, self._said = x, rule, context, False

    def on_epoch_end(self, epoch, logs=None):
        found = {} if self._said else heavy_tails(
            self.model.flow, self._x, self._rule, context=self._context)
        if found:
            self._said, name = True, max(found, key=found.get)
            print(f"warning: in {len(found)} of {len(self.model.flow.branches())} blocks, most of "
                  f"all {name}, rare draws of the number of terms weigh so much that means, of the "
                  "gradient too, are not to be relied on: --n_dist=adaptive has none",
                  file=sys.stderr, flush=True)
