"""Unknowns and arguments in lists and dictionaries: one vector an example, for solvers."""

import tensorflow as tf

from tfresflow.checks.rules import check_object
from tfresflow.solvers.unknowns import check_args, kept, taken

__all__ = ["flattened"]


def flattened(function, x, args):
    """What a solver of one tensor is to be given in place of nested structures.

    Args:
      function: of `(x, *args)`, returns the structure of x.
      x: a tensor `[N, ...]`, or a nested structure of such, of one dtype and one N.
      args: nested structures of tensors.

    Returns:
      `(function, x, args, restore)`: of one tensor, of a flat list of tensors, and a function that
      makes the structure of x again of a `Solution`'s value.

    Raises:
      ValueError: if the tensors of x do not fit, `function` is none or returns another structure,
        or `args` is no list or tuple.
    """
    check_object("function", function, "be a function, and come before `x`", "__call__")
    check_args(args)
    flat = [tf.convert_to_tensor(a) for a in tf.nest.flatten(list(args))]
    if not tf.nest.is_nested(x):
        x = taken("x", x)
        if not any(map(tf.nest.is_nested, args)):
            return function, x, flat, lambda solution: solution
        return (lambda h, *a: function(h, *tf.nest.pack_sequence_as(list(args), a)), x, flat,
                lambda solution: solution)
    packing = _Packing(x)

    def packed(h, *a):
        return packing.pack(function(packing.unpack(h), *tf.nest.pack_sequence_as(list(args), a)))

    return (packed, packing.pack(x), flat,
            lambda solution: solution._replace(value=packing.unpack(solution.value)))


class _Packing:
    """Between a structure of tensors `[N, ...]` and one tensor `[N, D]`."""

    def __init__(self, x):
        leaves = [taken("x", t) for t in tf.nest.flatten(x)]
        kinds, counts = {t.dtype for t in leaves}, {t.shape[0] for t in leaves} - {None}
        if len(kinds) != 1 or len(counts) > 1 or any(None in t.shape[1:] for t in leaves):
            said = ", ".join(f"{t.dtype.name} {t.shape}" for t in leaves)
            raise ValueError("`x` may be a list or dictionary of tensors [N, ...], but these must "
                             "all be of one dtype and one N, and of known sizes but for N. "
                             f"Received: {said}")
        self._like = x
        self._kinds = [tf.TensorSpec(t.shape, t.dtype) for t in leaves]
        self._sizes = [t.shape[1:].num_elements() for t in leaves]

    def pack(self, x):
        try:
            tf.nest.assert_same_structure(x, self._like)
        except (TypeError, ValueError) as error:
            said = tf.nest.map_structure(lambda t: getattr(t, "shape", type(t).__name__), x)
            raise ValueError("`function` must return the structure of `x`. "
                             f"Received: {said}") from error
        leaves = [kept("function", lambda t: t, "x", kind)(t)
                  for t, kind in zip(tf.nest.flatten(x), self._kinds)]
        return tf.concat([tf.reshape(t, [-1, size]) for t, size in zip(leaves, self._sizes)],
                         axis=1)

    def unpack(self, h):
        parts = tf.split(h, self._sizes, axis=1)
        return tf.nest.pack_sequence_as(self._like, [
            tf.ensure_shape(tf.reshape(t, [-1, *kind.shape[1:]]), kind.shape)
            for t, kind in zip(parts, self._kinds)])
