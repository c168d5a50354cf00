"""Colour patches of the two photographs that scikit-learn ships."""

import numpy as np
import sklearn.datasets

from train.data.source import from_arrays

__all__ = ["source"]


def source(settings):
    """Patches `[32, 32, 3]` (or of --imagesize) on a grid of an eighth of their size.

    Each photograph is cut into three bands of columns, 80, 10 and 10 per cent of its width, and
    no patch crosses from one into another: the parts share no pixel.
    """
    size = settings.imagesize or 32
    parts: dict = {"train": [], "validation": [], "test": []}
    for photo in sklearn.datasets.load_sample_images().images:
        width = photo.shape[1]
        cuts = [0, round(0.8 * width), round(0.9 * width), width]
        for split, left, right in zip(parts, cuts, cuts[1:]):
            if right - left < size:
                raise ValueError(f"--imagesize must be at most {right - left} for photos. "
                                 f"Received: --imagesize={size}")
            parts[split].append(_patches(photo[:, left:right], size, stride=max(1, size // 8)))
    return from_arrays("image", {s: np.concatenate(p) for s, p in parts.items()}, nbits=8)


def _patches(image, size, stride):
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(0, 1))
    windows = windows[::stride, ::stride].reshape(-1, image.shape[2], size, size)
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 1))
