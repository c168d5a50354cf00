"""Two halves of a batch side by side: what keeps the two cores of a small machine busy.

TensorFlow spreads each operation over all cores. Those of a residual branch are too short for
that: threads wait for each other, and operations that run at the same time fight over the cores.
Half a batch on each core, with one thread for an operation, takes a quarter less time.
"""

import os
import platform
import warnings

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

__all__ = ["are_there", "at_least", "prepare", "side_by_side"]


def prepare():
    """One thread for each operation, where there are two cores and no GPU.

    To be called before TensorFlow has computed anything; does nothing afterwards, nor where the
    program or the environment has said how many threads there shall be. Machines of more cores
    keep TensorFlow's defaults, too: they were not measured.

    Warns:
      RuntimeWarning: TensorFlow has left oneDNN off, as it does on x86 processors without AVX-512
        VNNI, and nobody has asked for that. Only the environment can switch it on.
    """
    if _is_without_onednn():
        warnings.warn("TensorFlow has left oneDNN off on this processor; with it, training is "
                      "faster and takes less memory. Set TF_ENABLE_ONEDNN_OPTS=1 in the "
                      "environment before TensorFlow is imported, or to 0 to keep it off",
                      RuntimeWarning, stacklevel=2)
    threading = tf.config.threading
    chosen = (threading.get_intra_op_parallelism_threads()
              or threading.get_inter_op_parallelism_threads()
              or {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} & set(os.environ))
    if chosen or len(os.sched_getaffinity(0)) != 2 or tf.config.list_physical_devices("GPU"):
        return
    try:
        threading.set_intra_op_parallelism_threads(1)
        threading.set_inter_op_parallelism_threads(2)
    except RuntimeError:  # TensorFlow has begun
        pass


def _is_without_onednn():
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    chosen = "TF_ENABLE_ONEDNN_OPTS" in os.environ
    return x86 and not chosen and not _pywrap_util_port.IsMklEnabled()


def are_there():
    """Whether two operations run at a time, each on a thread of its own."""
    threading = tf.config.threading
    return (threading.get_intra_op_parallelism_threads() == 1
            and threading.get_inter_op_parallelism_threads() == 2)


def side_by_side(function, batched, least=2):
    """Runs a function of a batch on two halves, which have nothing to wait for in each other.

    Static shapes stay static: the gradients of unknown ones cost operations.

    Args:
      function: of tensors `[n, ...]`, returns a list of such tensors and a list of sums over n.
      batched: what the function is given, `[N, ...]`.
      least: examples for which it is worth it; fewer are not divided.

    Returns:
      Both lists, for the whole batch.
    """
    static = batched[0].shape[0]
    if static is None:
        return at_least(2, lambda *batched: _halves(function, batched), batched)
    return function(*batched) if static < least else _halves(function, batched)


def at_least(least, function, batched):
    """Runs a function of a batch on `least` examples or more: zeros are added where they lack.

    What a worker has of the last batch may be empty, and TensorFlow's convolutions of an empty
    float32 batch have wrong shapes on CPUs, those for the gradient none at all.

    Args:
      least: examples.
      function, batched: see `side_by_side`; examples of zeros must add nothing to the sums.

    Returns:
      Both lists, without the examples that were added.
    """
    if batched[0].shape[0] is not None and batched[0].shape[0] >= least:
        return function(*batched)
    n = tf.shape(batched[0])[0]
    added = tf.maximum(least - n, 0)
    outputs, sums = function(*[
        tf.ensure_shape(tf.pad(t, [[0, added]] + [[0, 0]] * (t.shape.rank - 1)),
                        [None, *t.shape[1:]]) for t in batched])
    return [t[:n] for t in outputs], sums


def _halves(function, batched):
    n = batched[0].shape[0]
    even = n is not None and n % 2 == 0
    if even:
        sizes = 2
        if not tf.executing_eagerly():
            function = tf.function(function, autograph=False)  # traced once for both
    else:
        n = tf.shape(batched[0])[0] if n is None else n
        sizes = [n // 2, n - n // 2]
    halves = zip(*(tf.split(t, sizes) for t in batched))
    (first, sums), (second, more) = (function(*half) for half in halves)
    return ([tf.concat(pair, axis=0) for pair in zip(first, second)],
            [a + b for a, b in zip(sums, more)])
