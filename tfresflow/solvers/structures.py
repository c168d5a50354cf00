"""Unknowns and arguments in lists and dictionaries: one vector an example, for solvers."""

import tensorflow as tf

__all__ = ["flattened"]


def flattened(function, x, args):
    """What a solver of one tensor is to be given in place of nested structures.

    Args:
      function: of `(x, *args)`, returns the structure of x.
      x: a tensor `[N, ...]`, or a nested structure of such, of one dtype.
      args: nested structures of tensors.

    Returns:
      `(function, x, args, restore)`: of one tensor, of a flat list of tensors, and a function that
      makes the structure of x again of a `Solution`'s value.

    Raises:
      ValueError: if the tensors of x do not fit, or `function` returns another structure.
    """
    flat = [tf.convert_to_tensor(a) for a in tf.nest.flatten(list(args))]
    if not tf.nest.is_nested(x):
        x = tf.convert_to_tensor(x)
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
        leaves = [tf.convert_to_tensor(t) for t in tf.nest.flatten(x)]
        kinds = sorted({t.dtype.name for t in leaves})
        if len(kinds) != 1 or any(not t.shape.rank or None in t.shape[1:] for t in leaves):
            raise ValueError("`x` must be of tensors [N, ...] of one dtype, all but N known. "
                             f"Received: {[(t.dtype.name, t.shape) for t in leaves]}")
        self._like = x
        self._shapes = [t.shape for t in leaves]
        self._sizes = [t.shape[1:].num_elements() for t in leaves]

    def pack(self, x):
        try:
            tf.nest.assert_same_structure(x, self._like)
        except (TypeError, ValueError) as error:
            raise ValueError("`function` must return the structure of `x`. Received: "
                             f"{tf.nest.map_structure(lambda t: t.shape, x)}") from error
        return tf.concat([tf.reshape(t, [-1, size]) for t, size in
                          zip(tf.nest.flatten(x), self._sizes)], axis=1)

    def unpack(self, h):
        parts = tf.split(h, self._sizes, axis=1)
        return tf.nest.pack_sequence_as(self._like, [
            tf.ensure_shape(tf.reshape(t, [-1, *shape[1:]]), shape)
            for t, shape in zip(parts, self._shapes)])
