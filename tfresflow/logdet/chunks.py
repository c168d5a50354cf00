"""A batch through a branch a few examples at a time."""

import typing

import tensorflow as tf

from tfresflow import lanes, xla

__all__ = ["Chunks", "chunks_of", "in_chunks", "largest_bytes"]


def largest_bytes(g, weights, x):
    """Of the largest activation of one example."""
    return x.dtype.size * g.largest(weights, tuple(x.shape[1:]))


class Chunks(typing.NamedTuple):
    """At most `size` examples at a time; `parallel` of them or more as two halves side by side."""

    size: int
    parallel: int | None

    def run(self, function, batched):
        """Runs `function` on one chunk."""
        if self.parallel is None:
            return function(*batched)
        return lanes.side_by_side(function, batched, self.parallel)


def chunks_of(g, weights, x, chunk_bytes=None):
    """The `Chunks` for a branch.

    Args:
      g, weights: a prepared `Function` and its weights.
      x: of which the shape of one example and the dtype count.
      chunk_bytes: of the largest activation at a time; None: 8 MiB on a CPU, 1 GiB where there is
        a GPU.
    """
    gpu = bool(tf.config.list_logical_devices("GPU"))
    chunk_bytes = chunk_bytes or (2 ** 30 if gpu else 2 ** 23)
    each = largest_bytes(g, weights, x)
    parallel = not gpu and (each <= 4096 or lanes.are_there())
    return Chunks(max(1, chunk_bytes // each), max(2, 2 ** 16 // each) if parallel else None)


def in_chunks(function, chunks, batched, events, like=()):
    """Runs a function of a batch on some examples at a time.

    Args:
      function: of tensors `[n, ...]`, returns a list of such tensors and a list of sums over n.
      chunks: how many.
      batched: what the function is given, `[N, ...]`.
      events: shape of one example of each tensor that it returns.
      like: tensors of the shapes of the sums.

    Returns:
      Both lists, for the whole batch.
    """
    if xla.is_there():  # which plans memory by itself, and knows no parts of sizes that it computes
        return function(*batched)
    static, dtype = batched[0].shape[0], batched[0].dtype
    n = tf.shape(batched[0])[0] if static is None else static
    count = -(-n // chunks.size)
    if static is not None and count <= 1:
        return chunks.run(function, batched)
    each = static // count if static is not None and static % count == 0 else None
    count = tf.maximum(1, count)
    step = -(-n // count)  # chunks of one size but for the last

    def chunk(i, arrays, sums):
        parts = [tf.ensure_shape(t[i * step:(i + 1) * step], [each, *t.shape[1:]])
                 for t in batched]
        outputs, terms = chunks.run(function, parts)
        return (i + 1, [a.write(i, output) for a, output in zip(arrays, outputs)],
                [s + term for s, term in zip(sums, terms)])

    arrays = [tf.TensorArray(dtype, count, element_shape=[each, *event], infer_shape=False)
              for event in events]
    state = (tf.constant(0), arrays, [tf.zeros_like(t) for t in like])
    _, arrays, sums = tf.while_loop(lambda i, *_: i < count, chunk, state, parallel_iterations=1)
    return [tf.ensure_shape(a.concat(), [static, *event])
            for a, event in zip(arrays, events)], sums
