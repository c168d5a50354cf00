"""What a strategy measures of its own gradients, as metrics of training."""

import warnings

import keras
import tensorflow as tf

__all__ = ["Measured"]


class Measured:
    """Mixin of a model with a strategy, `autodiff`; without a `tolerance` of it, it does nothing.

    `gradient_error` is the mean over examples of `Swept.error`, each counted as at most 1.
    `gradient_fallbacks` counts the examples of which it was past the tolerance, or not finite.
    """

    def take_strategy(self, autodiff):
        """Makes the metrics; to be called once."""
        self.autodiff, self._has_warned = autodiff, False
        if autodiff.tolerance is not None:
            self.error_metric = keras.metrics.Mean(name="gradient_error")
            self.fallback_metric = keras.metrics.Sum(name="gradient_fallbacks")

    @property
    def training_metrics(self):
        measures = self.autodiff.tolerance is not None
        return [self.error_metric, self.fallback_metric] if measures else []

    def look_at(self, logs):
        fallbacks = (logs or {}).get("gradient_fallbacks")
        if self._has_warned or fallbacks is None or not float(fallbacks):
            return
        self._has_warned = True
        warnings.warn(
            f"{self.autodiff}: the gradient of {int(fallbacks)} examples was further from that of "
            f"the loss than tolerance={self.autodiff.tolerance}. "
            + ("Their batches were differentiated again by `fallback`"
               if getattr(self.autodiff, "fallback", None) else "It was used as it is")
            + "; the metric gradient_fallbacks counts such examples. This is said once",
            stacklevel=2)

    def report_errors(self, errors):
        """Takes the errors `[N]` of a step into the metrics."""
        bad = ~(errors <= self.autodiff.tolerance)
        self.fallback_metric.update_state(tf.cast(bad, errors.dtype))
        self.error_metric.update_state(tf.where(errors < 1, errors, tf.ones_like(errors)))
