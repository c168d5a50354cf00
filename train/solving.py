"""Inverses that are asked for, and what is said of those that do not converge."""

import contextlib

import tensorflow as tf

from train.errors import NotConverged

__all__ = ["solving"]


@contextlib.contextmanager
def solving():
    """Within, where nothing but an inverse checks what it is given, `NotConverged` is raised."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise NotConverged(error.message.split("[[")[0]) from error
