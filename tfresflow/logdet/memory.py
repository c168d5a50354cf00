"""What is kept between the forward and the backward pass of a block.

    Tape       everything: the least arithmetic
    Released   the log-determinant's gradient is taken in the forward pass and scaled by the
               scalar cotangent later (equation 10); needs one cotangent for all examples
    Recompute  only x, the probe v and the Neumann vector w (`series.py`); the backward pass runs
               g once more and takes one gradient of <g, dy> + <d w^T J, v>. Right for any
               cotangents
    Auto       Tape or Recompute, whichever is faster at the size at hand; the default

Each is a function `(g, weights, x, v, terms, gradient) -> (g(x), log_det)`; the numbers and the
gradients are the same for all of them, and so are the derivatives of the gradients: `plain.py`. A
training step, which sees the whole flow, keeps less: `autodiff` and `block.py`.
"""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.batches.parts import Chunked, chunks_of, in_chunks, largest_bytes
from tfresflow.batches.rows import each
from tfresflow.functions.derivatives import differentiable, held, is_followed, with_gradient
from tfresflow.functions.jacobian import linearise
from tfresflow.logdet.plain import first_order
from tfresflow.saving.configurable import Configurable

__all__ = ["LIGHT", "Auto", "Memory", "Recompute", "Released", "Tape"]

LIGHT = 2 ** 16  # bytes of activations that to keep is faster than to compute them again


class Memory(Configurable):
    """Base of what a `LogDet` takes as `memory`; a subclass defines `__call__`."""

    def __call__(self, g, weights, x, v, terms, gradient):
        """`(g(x), log_det)`, `[N, ...]` and `[N]`, whose gradient keeps what this strategy keeps.

        Args:
          g, weights: a `Function` and its weights.
          x, v, terms: where, the probes, and the `Terms` with which they are summed.
          gradient: `Neumann()` or `Series()`.
        """
        raise NotImplementedError(f"{type(self).__name__}.__call__")


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Tape(Memory):
    """Keeps all activations: ordinary back-propagation through the estimate.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> def gradient(memory):
      ...     x = tf.ones([4, 3])
      ...     with tf.GradientTape() as tape:
      ...         tape.watch(x)
      ...         log_det = logdet.LogDet(memory=memory)(lambda x: tf.sin(x) / 2, x, seed=0)[1]
      ...     return tape.gradient(log_det, x)
      >>> difference = gradient(logdet.Tape()) - gradient(logdet.Recompute())
      >>> bool(tf.reduce_all(abs(difference) < 1e-5))             # only what is kept differs
      True
    """

    def __call__(self, g, weights, x, v, terms, gradient):
        def forward(x, *weights):
            with tf.GradientTape(persistent=True) as tape:
                tape.watch([x, *weights])
                y, jacobian = linearise(g, weights, x)
                log_det, targets = gradient.recorded(tape, jacobian, v, terms)

            def backward(_, dy, dlog_det, *__):
                tensors, cotangents = targets(dlog_det)
                return _gradient(tape, [y, *tensors], [x, *weights], [dy, *cotangents])

            return (y, log_det), backward

        return _estimate(forward, g, weights, x, v, terms, gradient)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Released(Memory):
    """Takes the gradient of the log-determinant in the forward pass (equation 10).

    Keeps that gradient and the activations of g. The gradient of the weights is one sum over the
    batch, so the loss must weigh the log-determinants of all examples alike, as a mean over the
    batch does; another loss raises `tf.errors.InvalidArgumentError` in the backward pass.

    Raises:
      tf.errors.InvalidArgumentError: in the backward pass, if the examples weigh differently.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x, estimate = tf.ones([2, 3]), logdet.LogDet(memory=logdet.Released())
      >>> with tf.GradientTape(persistent=True) as tape:
      ...     tape.watch(x)
      ...     log_det = estimate(lambda x: tf.sin(x) / 2, x, seed=0)[1]
      ...     alike, apart = tf.reduce_mean(log_det), tf.reduce_sum([1., 2.] * log_det)
      >>> tape.gradient(alike, x).shape
      TensorShape([2, 3])
      >>> tape.gradient(apart, x)
      Traceback (most recent call last):
        ...
      tensorflow...InvalidArgumentError: ...

    References: Chen et al., Residual Flows (2019), equation 10.
    """

    def __call__(self, g, weights, x, v, terms, gradient):
        def forward(x, *weights):
            with tf.GradientTape() as log_det_tape:
                log_det_tape.watch([x, *weights])
                with tf.GradientTape(persistent=True) as g_tape:
                    g_tape.watch([x, *weights])
                    y, jacobian = linearise(g, weights, x)
                log_det, targets = gradient.recorded(log_det_tape, jacobian, v, terms)
                tensors, cotangents = targets(tf.ones_like(log_det))
            dx_ready, *dweights_ready = held(
                _gradient(log_det_tape, tensors, [x, *weights], cotangents))

            def backward(_, dy, dlog_det, *__):
                scale = _common_cotangent(dlog_det)
                dx, *dweights = _gradient(g_tape, y, [x, *weights], dy)
                dx += each(dlog_det, dx_ready)
                return [dx, *(d + scale * r for d, r in zip(dweights, dweights_ready))]

            return (y, log_det), backward

        return _estimate(forward, g, weights, x, v, terms, gradient)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Recompute(Chunked, Memory):
    """Keeps x and two vectors of its size for each probe; the backward pass evaluates g again.

    Works through the batch a few examples at a time, so that the activations of g stay in the
    cache of the processor: on CPUs this is faster, and the memory that a block needs while it
    runs no longer grows with the batch. Small dense branches, whose operations are too short to
    be spread over the cores, run as two halves of the batch at the same time; so do all where
    `threads.prepare()` was called.

    Args:
      chunk_bytes: see `autodiff.Recomputed`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x, estimate = tf.ones([2, 3]), logdet.LogDet(memory=logdet.Recompute())
      >>> with tf.GradientTape() as tape:
      ...     tape.watch(x)
      ...     g_x, log_det = estimate(lambda x: tf.sin(x) / 2, x, seed=0)
      ...     loss = tf.reduce_sum([1., 2.] * log_det)            # examples may weigh differently
      >>> tape.gradient(loss, x).shape
      TensorShape([2, 3])
    """

    def __call__(self, g, weights, x, v, terms, gradient):
        chunks = chunks_of(g, weights, x, self.chunk_bytes)

        def forward(x, *weights):
            y, log_det, *w = _forward(g, chunks, x, v, terms, list(weights))
            w = held(w)

            def backward(x, dy, dlog_det, *weights):
                return _backward(g, gradient, chunks, x, v, terms, dy, dlog_det, w,
                                 list(weights))

            return (y, log_det), backward

        return _estimate(forward, g, weights, x, v, terms, gradient)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class Auto(Memory):
    """`Tape` for a batch so small that its activations do not matter, else `Recompute`.

    Where the largest activation of g is under 64 KiB for the whole batch, computing it again
    costs more (a tenth of a step) than keeping it; beyond, the chunks of `Recompute` are faster
    and smaller. A batch of unknown size counts as large. `Released` was never the fastest nor
    the smallest, so it is not chosen.

    Args:
      tape_bytes: most bytes of that activation, for the whole batch, with which `Tape` is taken.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import logdet
      >>> x = tf.ones([4, 3])
      >>> keep = logdet.LogDet(memory=logdet.Auto())              # so small a batch: as `Tape`
      >>> again = logdet.LogDet(memory=logdet.Auto(tape_bytes=0))           # as `Recompute`
      >>> a, b = (f(lambda x: tf.sin(x) / 2, x, seed=0)[1] for f in (keep, again))
      >>> bool(tf.reduce_all(abs(a - b) < 1e-5))
      True
    """

    tape_bytes: int = LIGHT

    def __call__(self, g, weights, x, v, terms, gradient):
        n = x.shape[0]
        small = n is not None and n * largest_bytes(g, weights, x) <= self.tape_bytes
        return (Tape() if small else Recompute())(g, weights, x, v, terms, gradient)


def _estimate(forward, g, weights, x, v, terms, gradient):
    """`(g(x), log_det)`, differentiable to any order.

    Args:
      forward: `(x, *weights) -> ((g(x), log_det), backward)`, where
        `backward(x, dy, dlog_det, *weights)` is `[dx, *dweights]`.
      g, weights, x, v, terms, gradient: as `Recompute` takes them.
    """
    def plain(x, dy, dlog_det, *others):
        weights, (drawn, *v) = list(others[:count]), others[count:]
        again = dataclasses.replace(terms, drawn=drawn)
        dx, _, *dweights = first_order(g, gradient, x, v, again, dy, dlog_det, weights)
        return [dx, *dweights]

    def compute(x, *weights):
        outputs, state["fast"] = forward(x, *weights)
        return outputs

    def backward(sources, dy, dlog_det):
        x, *weights = sources
        fast = plain_here if followed else state["fast"]  # whose tensors would be hidden
        return differentiable(fast, plain, [x, dy, dlog_det, *weights],
                              [terms.drawn, *v])

    def plain_here(*sources):
        return plain(*sources, terms.drawn, *v)

    count, state, followed = len(weights), {}, is_followed([x, *weights])
    return with_gradient(compute, backward, [x, *weights])


def _forward(g, chunks, x, v, terms, weights):
    """`[g(x), log_det, *w]`."""
    def chunk(weights, x, *v):
        y, jacobian = linearise(g, weights, x)
        log_det, w = terms.sum(jacobian, v)
        return [y, log_det, *w], []

    events = [x.shape[1:], [], *(x.shape[1:] for _ in v)]
    return in_chunks(chunk, chunks, [x, *v], events, weights)[0]


def _backward(g, gradient, chunks, x, v, terms, dy, dlog_det, w, weights):
    """`[dx, *dweights]`."""
    def chunk(weights, x, dy, dlog_det, *v_and_w):
        v, w = v_and_w[:len(v_and_w) // 2], v_and_w[len(v_and_w) // 2:]
        # The control dependency keeps TensorFlow from sharing the first evaluation of a g that
        # is not in a function of its own with this one, or from starting this one early: either
        # would hold the memory that recomputing is there to free.
        with tf.control_dependencies([dy, dlog_det]):
            x = tf.identity(x)
        with tf.GradientTape() as tape:
            tape.watch([x, *weights])
            y, jacobian = linearise(g, weights, x)
            tensors, cotangents = gradient.targets(jacobian, v, terms, w)(dlog_det)
        dx, *dweights = _gradient(tape, [y, *tensors], [x, *weights], [dy, *cotangents])
        return [dx], dweights

    [dx], dweights = in_chunks(chunk, chunks, [x, dy, dlog_det, *v, *w], [x.shape[1:]], weights,
                               sums=True)
    return [dx, *dweights]


def _gradient(tape, target, sources, cotangent=None):
    # The log-determinant does not depend on the last bias: zero, not None.
    return tape.gradient(target, sources, cotangent, unconnected_gradients="zero")


def _common_cotangent(dlog_det):
    """The one number that all entries of `dlog_det [N]` are, or an error; under XLA, NaN."""
    low, high = tf.reduce_min(dlog_det), tf.reduce_max(dlog_det)
    tolerance = 1e-6 * tf.maximum(tf.abs(low), tf.abs(high))
    message = ("memory=Released() needs the same cotangent of log_det for every example of the "
               "batch (an unweighted mean or sum). Use Recompute() or Tape() where examples are "
               "weighted. Received cotangents between")
    equal = high - low <= tolerance
    check = tf.debugging.Assert(equal, [message, low, "and", high])
    with tf.control_dependencies([check] if check is not None else []):
        n = tf.cast(tf.size(dlog_det), dlog_det.dtype)
        mean = tf.math.divide_no_nan(tf.reduce_sum(dlog_det), n)
        # XLA has no errors; of an empty batch low is inf, high -inf.
        return tf.where(equal, mean, tf.constant(math.nan, mean.dtype))
