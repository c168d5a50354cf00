"""Stateless seeds: one number in, the same randomness out, eager or traced, split or whole."""

import math
import numbers
import typing

import tensorflow as tf

from tfresflow.batches import xla
from tfresflow.checks.rules import is_whole

__all__ = ["Part", "as_seed", "bits", "check_seed", "fold_in", "integers", "normal", "split",
           "starting"]

_INTEGERS, _PHILOX = tf.raw_ops.StatelessRandomUniformFullIntV2, 1


class Part(typing.NamedTuple):
    """The seed for a part of a batch: that of the whole batch, and where the part begins in it.

    What is drawn for an example depends only on its place in the whole batch, not on how the batch
    is divided among replicas or into micro-batches. What is drawn once for a batch (the number of
    terms) is the same in all its parts.

    Args:
      seed: of the whole batch, a `[2]` integer tensor.
      first: place of the part's first example in the whole batch, an int64 scalar.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import seeds
      >>> whole = seeds.Part(seeds.as_seed(7))
      >>> all_rows = seeds.normal(whole, [5, 3], tf.float32)
      >>> last_rows = seeds.normal(seeds.starting(whole, 2), [3, 3], tf.float32)
      >>> bool(tf.reduce_all(abs(all_rows[2:] - last_rows) < 1e-6))
      True
    """

    seed: typing.Any
    first: typing.Any = 0


def as_seed(seed=None):
    """`seed` as the `[2]` integer tensor that TensorFlow's stateless ops take.

    Args:
      seed: None (fresh randomness, which follows `tf.random.set_seed` and
        `keras.utils.set_random_seed` as TensorFlow's own random ops do), an integer, an integer
        tensor of shape `[]` or `[2]`, or a `Part`.

    Returns:
      An int32 or int64 tensor of shape `[2]`; a `Part` is returned unchanged.

    Raises:
      ValueError: if `seed` has another shape or is not of integers.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import seeds
      >>> seed = seeds.as_seed(7)
      >>> seed.numpy().tolist()
      [0, 7]
      >>> seeds.as_seed(seed) is seed       # what is a seed already stays as it is
      True
      >>> tf.random.stateless_uniform([2], seed).shape
      TensorShape([2])
    """
    if isinstance(seed, Part):
        return seed
    if seed is None:
        return _fresh()
    if isinstance(seed, numbers.Integral):
        return tf.constant([int(seed) >> 31 & 0x7FFFFFFF, int(seed) & 0x7FFFFFFF], tf.int32)
    try:
        tensor = tf.convert_to_tensor(seed)
    except (TypeError, ValueError):
        raise _bad(seed) from None
    if not tensor.dtype.is_integer or tensor.shape.rank not in (0, 1):
        raise _bad(seed)
    if tensor.dtype not in (tf.int32, tf.int64):
        tensor = tf.cast(tensor, tf.int64)
    if tensor.shape.rank == 0:
        return tf.stack([tf.zeros_like(tensor), tensor])
    if tensor.shape[0] != 2:
        raise _bad(seed)
    return tensor


def check_seed(seed):
    """Raises `ValueError` unless a constructor's `seed` is an integer or None.

    Example:
      >>> from tfresflow import seeds
      >>> seeds.check_seed(7)
      >>> seeds.check_seed(0.5)
      Traceback (most recent call last):
        ...
      ValueError: `seed` must be an integer, or None. Received: seed=0.5
    """
    if seed is not None and not is_whole(seed):
        raise ValueError(f"`seed` must be an integer, or None. Received: seed={seed}")


def fold_in(seed, data):
    """A new seed from `seed` and the integer `data` (a block's index, a step).

    Args:
      seed: as for `as_seed`.
      data: an integer, or an integer tensor of shape `[]`.

    Returns:
      A tensor of shape `[2]`; of a `Part`, the `Part` with the same `first`.

    Example:
      >>> from tfresflow import seeds
      >>> first, again, other = (seeds.fold_in(7, step).numpy().tolist() for step in (0, 0, 1))
      >>> first == again, first == other
      (True, False)
    """
    if isinstance(seed, Part):
        return Part(fold_in(seed.seed, data), seed.first)
    data = tf.convert_to_tensor(data)
    key, counter = _stream(as_seed(seed))
    word = _INTEGERS(shape=[1], key=key, counter=counter, alg=_PHILOX, dtype=data.dtype)
    return tf.stack([word[0], data])


def starting(seed, start):
    """The `Part` for the examples from place `start` on of a batch with this seed.

    Args:
      seed: as for `as_seed`; of a `Part`, `start` counts from its own first example.
      start: an integer, or an integer tensor of shape `[]`.

    Example:
      >>> from tfresflow import seeds
      >>> seeds.starting(seeds.starting(7, 2), 3).first
      5
    """
    part = seed if isinstance(seed, Part) else Part(as_seed(seed))
    return Part(part.seed, part.first + start)


def split(seed, n):
    """`[fold_in(seed, i) for i in range(n)]`, in a number of operations that n does not change.

    Example:
      >>> from tfresflow import seeds
      >>> seed = seeds.as_seed(7)
      >>> for_terms, for_probes = seeds.split(seed, 2)
      >>> for_probes.numpy().tolist() == seeds.fold_in(seed, 1).numpy().tolist()
      True
    """
    if isinstance(seed, Part):
        return [Part(own, seed.first) for own in split(seed.seed, n)]
    # The second number of a folded seed is what was folded in.
    return tf.unstack(fold_in(seed, 0) + tf.constant([[0, i] for i in range(n)], tf.int32))


def integers(seed, shape, bits):
    """Random int64 `shape`, in [0, 2^bits), bits at most 63; `seed` a `[2]` integer tensor.

    Example:
      >>> from tfresflow import seeds
      >>> dice = seeds.integers(seeds.as_seed(7), [1000], bits=2)
      >>> sorted(set(dice.numpy().tolist()))
      [0, 1, 2, 3]
    """
    key, counter = _stream(seed)
    words = _INTEGERS(shape=shape, key=key, counter=counter, alg=_PHILOX, dtype=tf.int64)
    return words & (2 ** bits - 1)


def normal(seed, shape, dtype):
    """Standard normal numbers; row i depends on the seed and the place of example i alone.

    Args:
      seed: a `Part`.
      shape: list `[N, ...]`; N an integer or a scalar tensor, the others integers.
      dtype: of the result.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import seeds
      >>> x = seeds.normal(seeds.Part(seeds.as_seed(7)), [10_000, 2], tf.float32)
      >>> [round(float(deviation), 1) for deviation in tf.math.reduce_std(x, axis=0)]
      [1.0, 1.0]
    """
    op = xla.normal if xla.is_compiling() else tf.raw_ops.StatelessRandomNormalV2
    return _rows(op, seed, shape, dtype)


def bits(seed, shape):
    """Random int32 of which all 32 bits are random; arguments and rows as for `normal`.

    Example:
      >>> from tfresflow import seeds
      >>> coins = seeds.bits(seeds.Part(seeds.as_seed(7)), [1000, 2]) & 1
      >>> sorted(set(coins.numpy().ravel().tolist()))
      [0, 1]
    """
    return _rows(_INTEGERS, seed, shape, tf.int32)


def _stream(seed):
    """Key and counter with which the random numbers of a `[2]` integer tensor begin."""
    if xla.is_compiling():
        return xla.stream(seed)
    return tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)


def _fresh():
    """Two random integers, other ones at every call, eager or of a traced function.

    An op of TensorFlow's own and no `tf.random.Generator`: it follows the global seed, and an
    exported function holds no variable for it. Its seed is drawn where Python runs, as two traces
    of one function (for two batch sizes) would otherwise begin with the same numbers.
    """
    with tf.init_scope():
        _, own = tf.compat.v1.get_seed(None)
    return tf.random.uniform([2], -2 ** 31, 2 ** 31 - 1, dtype=tf.int32, seed=own)


def _bad(seed):
    return ValueError("`seed` must be None, an integer or a [2] tensor of integers. "
                      f"Received: seed={seed}")


def _rows(op, part, shape, dtype):
    """Rows `part.first, ...` of one endless stream of the seed.

    Philox gives four 32-bit words for each value of a counter: to begin at a row is to begin at
    another counter, if each row takes whole fours.
    """
    words = max(1, dtype.size // 4)  # of an entry; a half takes one, too
    width = math.prod(shape[1:])
    padded = -(-width // 4) * 4
    key, counter = _stream(part.seed)
    skip = tf.cast(part.first, tf.int64) * (padded * words // 4)
    low, high = tf.unstack(tf.bitcast(counter, tf.int64))
    counter = tf.bitcast(tf.stack([low + skip, high]), tf.uint64)
    rows = op(shape=[shape[0], padded], key=key, counter=counter, alg=_PHILOX, dtype=dtype)
    return tf.reshape(rows[:, :width], shape)
