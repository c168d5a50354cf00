"""Keras's methods for a single batch."""

from tfresflow.training import start
from tfresflow.training.given import one_batch
from tfresflow.training.joined import parted

__all__ = ["OnBatch"]


class OnBatch:
    """Mixin of a `keras.Model` that has a `flow` and `as_weights(x)`."""

    def train_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        """As in Keras; does not set data-dependent weights, see `initialize`."""
        batch = one_batch(self._batch(x, y), y, sample_weight)
        self._check_support(batch[0])
        return super().train_on_batch(*batch, *args, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, *args, **kwargs):
        """As in Keras."""
        batch = one_batch(self._batch(x, y), y, sample_weight)
        return super().test_on_batch(*batch, *args, **kwargs)

    def predict_on_batch(self, x):
        """As in Keras: `log p(x)`."""
        return super().predict_on_batch(self.as_weights(x))

    def _batch(self, x, y):
        return self.as_weights(parted(x, y, self.rows_flow.what) if self.joins else x)

    def _check_support(self, x):
        if hasattr(self.rows_flow, "check_support"):
            self.rows_flow.check_support(self.as_weights(start.from_array(x, None)[0]))
