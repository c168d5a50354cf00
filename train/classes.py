"""What a classifier is worth: accuracy with its error, and calibration."""

import numpy as np

from train import data

__all__ = ["classification"]

_BINS = 15


def classification(model, settings):
    """Metrics of the test part: accuracy, its standard error, expected calibration error."""
    found = [(model.classify(x).numpy(), y.numpy()) for x, y in data.load(settings, "test")]
    probabilities, labels = (np.concatenate(part) for part in zip(*found))
    right = probabilities.argmax(axis=1) == labels
    accuracy = right.mean()
    return {"num_test_examples": len(right), "num_classes": probabilities.shape[1],
            "accuracy": float(accuracy),
            "accuracy_stderr": float(np.sqrt(accuracy * (1 - accuracy) / len(right))),
            "calibration_error": calibration_error(probabilities.max(axis=1), right)}


def calibration_error(confidence, right, bins=_BINS):
    """The expected calibration error: mean of |accuracy - confidence| over bins of confidence.

    Args:
      confidence: `[N]`, the probability of the class that was chosen.
      right: `[N]`, whether it was right.
      bins: of equal width, each weighted by how many are in it.

    References: Guo et al., On calibration of modern neural networks (2017).
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.abs(np.bincount(place, right - confidence, bins))
    return float(gaps.sum() / len(right))
