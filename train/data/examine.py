"""Looks at some of a user's images: whether a density of them would mean anything."""

import numpy as np
import tensorflow as tf

from train.data.source import warn

__all__ = ["examine_images"]


def examine_images(fetch, count, settings, name, most=64):
    """Warns of levels and channels that a user will hardly have meant.

    Args:
      fetch: of the training part, `indices -> uint8 [B, H, W, C]`.
      count: of its examples.
      settings: --nbits is looked at.
      name: what to call the data.
      most: how many are looked at, from beginning to end.

    Raises:
      ValueError: --nbits leaves nothing of the levels.
    """
    indices = np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
    images = fetch(tf.constant(indices)).numpy()
    top = int(images.max())
    if top >> (8 - settings.nbits) == 0:
        raise ValueError(f"{name}: the levels of {len(images)} images are 0 to {top}, of 0 to 255, "
                         f"and --nbits={settings.nbits} keeps the upper {settings.nbits} bits: "
                         "nothing is left of them. Spread the levels over 0 to 255")
    if top <= 16:
        warn(f"{name}: the levels of {len(images)} images are 0 to {top}, of 0 to 255. If that is "
             "all of their range, spread them over 0 to 255")
    channels = images.reshape(-1, images.shape[-1])
    if channels.shape[1] > 1 and np.all(channels == channels[:, :1]):
        warn(f"{name}: the {channels.shape[1]} channels of {len(images)} images are equal: they "
             "are grey, and bits/dim counts each pixel more than once. Give them as grey")
        return
    constant = [str(i) for i in range(channels.shape[1]) if np.ptp(channels[:, i]) == 0]
    if constant:
        warn(f"{name}: channel {', '.join(constant)} of {len(images)} images is constant, and "
             "bits/dim counts it. Leave it out")
