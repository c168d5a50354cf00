"""MNIST and CIFAR-10 by `keras.datasets`, which downloads them once."""

import keras
import numpy as np

from train.data.labels import of_labels
from train.data.source import from_arrays

__all__ = ["source"]


def source(settings):
    """MNIST `[28, 28, 1]` or CIFAR-10 `[32, 32, 3]`, with their own test parts.

    Validation is cut from the training part, as many images as --val_fraction of it.
    """
    try:
        (train, labels), (test, test_labels) = getattr(keras.datasets, settings.data).load_data()
    except Exception as error:  # Keras raises a bare Exception where the download fails
        raise OSError(f"--data={settings.data} could not be downloaded ({error}). Without a "
                      "network, use --data=mnist5k or --data=folder --dataroot=DIR") from None
    order = np.random.RandomState(settings.seed).permutation(len(train))
    held_out = max(1, round(len(train) * settings.val_fraction))
    parts = {"train": train[order[held_out:]], "validation": train[order[:held_out]],
             "test": test}
    parts = {s: a if a.ndim == 4 else a[..., None] for s, a in parts.items()}
    of_parts = {"train": labels[order[held_out:]], "validation": labels[order[:held_out]],
                "test": test_labels}
    of_parts = {s: own.ravel() for s, own in of_parts.items()}  # CIFAR-10's are [n, 1]
    return from_arrays("image", parts, nbits=8,
                       **of_labels(settings.data, of_parts, settings, range(10)))
