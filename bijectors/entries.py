"""What a user may give as x, or as z: checked and cast before the code of a bijector sees it."""

import functools

import tensorflow as tf

__all__ = ["take_tensors"]

# What subclasses may say of x or z. Whatever they are given, their code gets tensors `[N, ...]`.
_ENTRIES = {"forward_and_log_det": "x", "initialize": "x", "find_nonfinite": "x",
            "inverse_and_log_det": "z", "inverse_alone": "z", "solve": "z"}


def take_tensors(cls):
    """Has the methods that a subclass of `Flow` says be called with tensors, norms up to date."""
    for method, name in _ENTRIES.items():
        if method in vars(cls):
            setattr(cls, method, _entry(vars(cls)[method], name))


def _entry(method, name):
    """A method of a flow that is given x, or z, by a user, and needs norms of its weights.

    AutoGraph does not rewrite it, as no code of TFP: tracing would take several times as long.
    """
    @tf.autograph.experimental.do_not_convert
    @functools.wraps(method)
    def entry(self, *args, **kwargs):
        if name in kwargs:
            args = kwargs.pop(name), *args
        if not args:
            return method(self, **kwargs)  # Python's own error
        args = self._take(name, args[0]), *args[1:]
        context = self._take_context(args[0], {"context": kwargs.pop("context", None)})
        with self._up_to_date():
            return method(self, *args, **kwargs, **context)

    return entry
