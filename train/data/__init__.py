"""Data: `load(settings, split)` gives batches, one file a source.

A source is a function of the settings that returns a `Source`: for each of the parts
"train", "validation" and "test" how many examples there are and how to fetch some. What all
have in common (order, noise, batches) stands once, in `pipeline.py`.
"""

from train.data.histogram import histogram_bits_per_dim
from train.data.outside import load_outside
from train.data.pipeline import describe, kept, level_chunks, levels, load, steps
from train.data.scaler import column_names
from train.data.trained import save_trained
from train.data.unreadable import find_unreadable

__all__ = ["column_names", "describe", "find_unreadable", "histogram_bits_per_dim", "kept",
           "level_chunks", "levels", "load", "load_outside", "save_trained", "steps"]
