"""A baseline for images: every pixel by itself, by its histogram."""

import numpy as np

__all__ = ["histogram_bits_per_dim"]

_SMOOTHING = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0)


def histogram_bits_per_dim(train, validation, test, nbits):
    """Bits/dim of independent per-pixel histograms with additive smoothing.

    Args:
      train: integer levels that the histograms count, as chunks `[n, ...]`, one after the other.
      validation: levels that the strength of smoothing is chosen on, as a list of such chunks.
      test: levels that are scored, as chunks.
      nbits: bits of a level.

    Returns:
      `(bits_per_dim, standard_error)` over the images of `test`.
    """
    counts = _counts(train, 2 ** nbits)
    best = min(_SMOOTHING, key=lambda alpha: _bits(counts, validation, alpha).mean())
    bits = _bits(counts, test, best)
    return float(bits.mean()), float(bits.std(ddof=1) / np.sqrt(len(bits)))


def _counts(chunks, num_levels):
    """`[D, num_levels]`: how often each pixel has each level."""
    counts = 0
    for images in chunks:
        flat = images.reshape(len(images), -1).astype(np.int64)
        size = flat.shape[1]
        codes = flat + num_levels * np.arange(size)
        counts = counts + np.bincount(codes.ravel(), minlength=size * num_levels)
    return counts.reshape(size, num_levels)


def _bits(counts, chunks, alpha):
    """Bits/dim of each image, `[n]`."""
    smooth = counts + alpha
    log_p = np.log2(smooth) - np.log2(smooth.sum(axis=1, keepdims=True))
    flat = (images.reshape(len(images), -1).astype(np.int64) for images in chunks)
    return np.concatenate([-log_p[np.arange(f.shape[1]), f].mean(axis=1) for f in flat])
