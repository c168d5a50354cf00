"""Data: `load(settings, split)` gives batches, one file a source.

A source is a function of the settings that returns a `Source`: for each of the parts
"train", "validation" and "test" how many examples there are and how to fetch some. What all
have in common (order, noise, batches) stands once, in `pipeline.py`.
"""

from train.data.folder import find_unreadable
from train.data.histogram import histogram_bits_per_dim
from train.data.pipeline import describe, levels, load, steps

__all__ = ["describe", "find_unreadable", "histogram_bits_per_dim", "levels", "load", "steps"]
