"""The 1,797 handwritten digits that scikit-learn ships, 8x8 pixels."""

import numpy as np
import sklearn.datasets

from train.data.labels import of_labels
from train.data.source import from_arrays, split_by_seed

__all__ = ["source"]


def source(settings):
    """Images `[8, 8, 1]` of 4 bits.

    A pixel counts dots, 0 to 16: 17 levels. The last two become one, so that 4 bits hold them.
    """
    digits = sklearn.datasets.load_digits()
    images = np.minimum(digits.images, 15).astype(np.uint8) * 16
    parts = split_by_seed(len(images), settings, "digits")
    labels = {s: digits.target[i] for s, i in parts.items()}
    return from_arrays("image", {s: images[i][..., None] for s, i in parts.items()}, nbits=4,
                       **of_labels("digits", labels, settings, range(10)))
