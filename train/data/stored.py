"""Images that stay in their files, and are read when a batch asks for them."""

import numpy as np
import tensorflow as tf

from train.data.source import Source, cut_validation, split_by_seed, warn

__all__ = ["Pixels", "Stored", "parted", "source_of", "splits_of", "taken"]


class Pixels:
    """An array of uint8 images, in memory or mapped: `pixels.read(indices)` is `[B, H, W, C]`.

    Args:
      array: `[n, H, W]`, `[n, H, W, C]`, or `[n, C, H, W]` with `channels_first`.
      channels_first: see there.
    """

    def __init__(self, array, channels_first=False):
        self._array, self._channels_first = array, channels_first
        shape = array.shape if array.ndim == 4 else (*array.shape, 1)
        self.shape = (shape[0], *shape[2:], shape[1]) if channels_first else shape

    def read(self, indices):
        """uint8 images, in this order."""
        images = np.asarray(self._array[indices])
        if self._channels_first:
            return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        return images if images.ndim == 4 else images[..., None]


class Stored:
    """Images of one or several files, one after the other: `images[indices]` is a choice of them.

    Args:
      pieces: what has a `shape` `[n, H, W, C]`, and `read(indices) -> uint8 [B, H, W, C]`; of one
        height, width and number of channels.
      order: which of all images, in which order; None: all as they are.

    Attributes:
      shape: `[n, H, W, C]`.
      dtype: uint8.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, pieces, order=None):
        self._pieces, self._order = list(pieces), order
        self._ends = np.cumsum([piece.shape[0] for piece in self._pieces])
        count = self._ends[-1] if order is None else len(order)
        self.shape = (int(count), *self._pieces[0].shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, chosen):
        order = np.arange(len(self)) if self._order is None else self._order
        return Stored(self._pieces, order[chosen])

    def read(self, indices):
        """uint8 `[B, H, W, C]`, in the order of the indices.

        Raises:
          ValueError: a file has changed or is damaged; names it.
        """
        indices = np.asarray(indices)
        places = indices if self._order is None else self._order[indices]
        images = np.empty((len(places), *self.shape[1:]), np.uint8)
        of_piece = np.searchsorted(self._ends, places, side="right")
        for i in np.unique(of_piece):
            begin = self._ends[i - 1] if i else 0
            own = np.flatnonzero(of_piece == i)
            own = own[np.argsort(places[own], kind="stable")]  # from the front of the file on
            images[own] = self._pieces[i].read(places[own] - begin)
        return images

    @tf.autograph.experimental.do_not_convert
    def fetch(self, indices):
        """`read` in TensorFlow operations."""
        images = tf.numpy_function(self.read, [indices], tf.uint8)
        return tf.ensure_shape(images, [None, *self.shape[1:]])


def parted(parts, settings, name):
    """`{split: images}` of what files say of parts.

    Args:
      parts: `{"train": images, ...}`, or `{"": images}` of no part; arrays or `Stored`.
      settings, name: see `splits_of`.
    """
    counts = {part: len(images) for part, images in parts.items()}
    return taken(parts, splits_of(counts, settings, name))


def splits_of(counts, settings, name):
    """`{split: (part, indices)}`: which examples, of which part of the files, are a split.

    Without a part of validation it is cut from the training part; if there is one and no test,
    that is the test, as for the published numbers. Without any parts all is parted by --seed.

    Args:
      counts: `{"train": how many examples, ...}`, or `{"": all}` of no part.
      settings: --val_fraction, --test_fraction and --seed count.
      name: of the files, for errors.
    """
    if set(counts) == {""}:
        indices = split_by_seed(counts[""], settings, name)
        return {split: ("", own) for split, own in indices.items()}
    splits = {part: (part, slice(None)) for part in counts}
    if "test" not in counts and {"train", "validation"} <= set(counts):
        warn(f"{name}: no test part: the validation part, {counts['validation']} examples, is "
             "the test, as for the published numbers, and another is cut from the training part")
        splits["test"] = splits.pop("validation")
    if not {"train", "test"} <= set(splits):
        found = ", ".join(sorted(part or "of no part" for part in counts))
        raise ValueError(f"{name}: expected a training part and a test or validation part, or "
                         f"files of no part at all. Found {found}")
    if "validation" not in splits:
        own, held_out = cut_validation(counts["train"], settings)
        splits |= {"train": ("train", own), "validation": ("train", held_out)}
    return splits


def taken(parts, splits):
    """`{split: images}`, or labels beside them, of `splits_of`."""
    return {split: parts[part][indices] for split, (part, indices) in splits.items()}


def source_of(parts, **kwargs):
    """A `Source` of images: `parts` maps each split to a `Stored`."""
    return Source("image", parts["train"].shape[1:], {s: len(part) for s, part in parts.items()},
                  {s: part.fetch for s, part in parts.items()}, nbits=8, **kwargs)
