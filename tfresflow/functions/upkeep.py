"""Norms that follow their weights, whoever changes these.

A layer of bounded norm keeps vectors that belong to its kernel. Whatever reads them first looks
whether the kernel is still the one that they were made for, and brings them up to date if it is
not: a training loop need not know of them. Who updates norms himself after each change, as
`FlowModel` does in its training step, says so by `kept`, and nothing is looked at.
"""

import contextlib
import threading

import tensorflow as tf

__all__ = ["any_changed", "by_kind", "catch_up", "kept", "up_to_date"]

_here = threading.local()  # replicas are traced in threads of their own


@contextlib.contextmanager
def kept():
    """While it lasts, norms are taken for those of the weights.

    Functions that are traced in it never look: for a training step that ends in `update_norms`,
    and for functions that are exported, whose weights no longer change.
    """
    before = getattr(_here, "kept", False)
    _here.kept = True
    try:
        yield
    finally:
        _here.kept = before


@contextlib.contextmanager
def up_to_date(layers):
    """Brings norms up to date that are older than their weights; what is done in it need not look.

    Args:
      layers: a function that returns the layers of bounded norm.
    """
    if not getattr(_here, "kept", False):
        catch_up(layers())
    with kept():
        yield


def catch_up(layers):
    """Brings norms up to date that are older than their weights.

    Layers that have `catch_up` do it themselves; other kinds know best when to.
    """
    for kind, own in by_kind(layers).items():
        if hasattr(kind, "catch_up"):
            kind.catch_up(own)


def any_changed(layers):
    """Whether weights of one have changed since its norm was updated: a scalar.

    Layers that have `catch_up` alone say that they have.
    """
    found = [kind.any_changed(own) if hasattr(kind, "any_changed") else True
             for kind, own in by_kind(layers).items() if hasattr(kind, "catch_up")]
    return tf.reduce_any(tf.stack([False, *found]))


def by_kind(layers):
    """`{type: layers of it}`."""
    kinds = {}
    for layer in layers:
        kinds.setdefault(type(layer), []).append(layer)
    return kinds
