"""Functions of a batch, evaluated in parts: in chunks, as two halves at a time, padded.

Each function of a batch here takes tensors `[n, ...]` and returns a list of such tensors and a list
of sums over n.
"""

import dataclasses
import functools
import typing

import tensorflow as tf

from tfresflow.batches import threads, xla
from tfresflow.checks.rules import check_whole
from tfresflow.saving.configurable import Configurable

__all__ = ["Chunked", "Chunks", "at_least", "chunks_of", "in_chunks", "in_parts", "largest_bytes",
           "padded", "side_by_side"]


def largest_bytes(g, weights, x):
    """Bytes that the largest activation of g takes for one example."""
    return x.dtype.size * g.largest(weights, tuple(x.shape[1:]))


class Chunks(typing.NamedTuple):
    """At most `size` examples at a time; `parallel` or more of them as two halves side by side.

    `parallel` None: never as halves. The last `num_rows` of the weights are cut with the batch.
    """

    size: int
    parallel: int | None
    num_rows: int = 0


@dataclasses.dataclass(frozen=True)
class Chunked(Configurable):
    """Base of objects that process a batch in chunks, so that activations stay in the CPU's cache.

    Args:
      chunk_bytes: most bytes of the largest activation for one chunk; None: 8 MiB on a CPU, 1 GiB
        where there is a GPU.
    """

    chunk_bytes: int | None = None

    def __post_init__(self):
        check_whole("chunk_bytes", self.chunk_bytes, 1, optional=True)


def chunks_of(g, weights, x, chunk_bytes=None):
    """The `Chunks` for a branch.

    Args:
      g, weights: a normalized `Function` and its weights.
      x: a tensor or spec; only the shape of one example and the dtype are used.
      chunk_bytes: see `Chunked`.
    """
    gpu = bool(tf.config.list_logical_devices("GPU"))
    chunk_bytes = chunk_bytes or (2 ** 30 if gpu else 2 ** 23)
    each = largest_bytes(g, weights, x)
    parallel = not gpu and (each <= 4096 or threads.are_prepared())
    return Chunks(max(1, chunk_bytes // each), max(2, 2 ** 16 // each) if parallel else None,
                  g.num_rows)


def in_chunks(function, chunks, batched, events, weights, sums=False, of_weights=True):
    """`in_parts` with the size that `chunks` gives; under XLA the whole batch at once.

    Args:
      function: of a list of weights and of a batch; what it sums is of the shapes of the weights.
      chunks: `Chunks`.
      batched, events: see `in_parts`.
      weights: a list of tensors.
      sums: whether the function returns any.
      of_weights: whether the sums begin with those of the weights that are not cut with the batch.
    """
    if xla.is_compiling():  # XLA plans memory by itself, and knows no parts of computed sizes
        return function(weights, *batched)
    first = len(weights) - chunks.num_rows
    own, rows = weights[:first], weights[first:]

    def with_rows(*batched):
        last = len(batched) - len(rows)
        outputs, found = function([*own, *batched[last:]], *batched[:last])
        shared = first if of_weights else 0
        return [*outputs, *found[shared:]], found[:shared]  # sums over one example are outputs

    run = with_rows if rows else functools.partial(function, weights)
    if chunks.parallel is not None:
        run = side_by_side(run, chunks.parallel)
    of_rows = [t.shape[1:] for t in rows] if sums else []
    outputs, found = in_parts(run, [*batched, *rows], chunks.size, [*events, *of_rows],
                              own if sums and of_weights else ())
    last = len(outputs) - len(of_rows)
    return outputs[:last], [*found, *outputs[last:]]


def in_parts(function, batched, size, events, like=(), dtypes=None):
    """Runs a function of a batch on `size` examples at a time, one part after the other.

    Args:
      function: of a batch, see the top of this file.
      batched: what the function is given, `[N, ...]`.
      size: an integer, or a scalar tensor.
      events: shape of one example of each tensor that it returns.
      like: tensors of the shapes of the sums.
      dtypes: of each tensor that it returns; default that of the first of `batched`.

    Returns:
      What the function returns, of the whole batch.
    """
    static, dtypes = batched[0].shape[0], dtypes or [batched[0].dtype] * len(events)
    n = tf.shape(batched[0])[0] if static is None else static
    count = -(-n // size)
    known = static is not None and isinstance(size, int)
    if known and count <= 1:
        return function(*batched)
    each = static // count if known and static % count == 0 else None
    count = tf.maximum(1, count)
    step = -(-n // count)  # parts of one size but for the last

    def part(i, arrays, sums):
        rows = [tf.ensure_shape(t[i * step:(i + 1) * step], [each, *t.shape[1:]]) for t in batched]
        outputs, terms = function(*rows)
        # Beside a sum of one row, a term of unknown size would have to be broadcast.
        return (i + 1, [a.write(i, output) for a, output in zip(arrays, outputs)],
                [s + tf.ensure_shape(term, s.shape) for s, term in zip(sums, terms)])

    arrays = [tf.TensorArray(dtype, count, element_shape=[each, *event], infer_shape=False)
              for event, dtype in zip(events, dtypes)]
    state = tf.constant(0), arrays, [tf.zeros(t.shape, t.dtype) for t in like]
    _, arrays, sums = tf.while_loop(lambda i, *_: i < count, part, state, parallel_iterations=1)
    return [tf.ensure_shape(a.concat(), [static, *event])
            for a, event in zip(arrays, events)], sums


def side_by_side(function, least=2):
    """A function of a batch that evaluates `function` on both halves of it at the same time.

    Static shapes stay static: the gradients of unknown ones cost operations.

    Args:
      function: of a batch, see the top of this file; examples of zeros must add nothing to the
        sums, as a batch of unknown size is padded to two.
      least: a batch of fewer examples is not divided.
    """
    def run(*batched):
        if batched[0].shape[0] is not None and batched[0].shape[0] < least:
            return function(*batched)
        batched, cut = padded(2, batched)
        n, sizes, half = batched[0].shape[0], 2, function
        if n is None or n % 2:
            n = tf.shape(batched[0])[0] if n is None else n
            sizes = [n // 2, n - n // 2]
        elif not tf.executing_eagerly():
            half = tf.function(function, autograph=False)  # traced once for both
        one, other = zip(*(tf.split(t, sizes) for t in batched))
        (first, sums), (second, more) = half(*one), half(*other)
        return (cut([tf.concat(pair, axis=0) for pair in zip(first, second)]),
                [a + b for a, b in zip(sums, more)])

    return run


def at_least(least, function, batched):
    """What a function of a batch returns where it is given `least` examples or more.

    Args:
      least, batched: see `padded`.
      function: see `side_by_side`.
    """
    batched, cut = padded(least, batched)
    outputs, sums = function(*batched)
    return cut(outputs), sums


def padded(least, batched):
    """A batch with examples of zeros added to it, so that it has at least `least`.

    A worker's share of the last batch may be empty, and TensorFlow's convolutions of an empty
    float32 batch have wrong shapes on CPUs, those for the gradient none at all.

    Args:
      least: number of examples.
      batched: tensors `[N, ...]`.

    Returns:
      The tensors, and a function that takes what was added out of a list of such tensors.
    """
    if batched[0].shape[0] is not None and batched[0].shape[0] >= least:
        return batched, list
    n = tf.shape(batched[0])[0]
    added = tf.maximum(least - n, 0)
    rows = [tf.ensure_shape(tf.pad(t, [[0, added]] + [[0, 0]] * (t.shape.rank - 1)),
                            [None, *t.shape[1:]]) for t in batched]
    return rows, lambda outputs: [t[:n] for t in outputs]
