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

__all__ = ["are_prepared", "prepare"]


def prepare():
    """Sets TensorFlow to run two operations at a time, with one thread each, to train faster.

    Only on a machine with two cores and no GPU; others keep TensorFlow's defaults, as they were not
    measured. Call it before TensorFlow computes anything. It does nothing afterwards, or if the
    program or the environment has already set the number of threads.

    Warns:
      RuntimeWarning: TensorFlow has left oneDNN off, as it does on x86 processors without AVX-512
        VNNI, and TF_ENABLE_ONEDNN_OPTS, which alone can switch it on, is not set.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import threads
      >>> _, before = tf.zeros([]), threads.are_prepared()
      >>> threads.prepare()                 # too late: TensorFlow has made a tensor
      >>> threads.are_prepared() == before
      True
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


def are_prepared():
    """Whether TensorFlow is set as `prepare` sets it: two operations at a time, one thread each.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import threads
      >>> threads_of_each = tf.config.threading.get_intra_op_parallelism_threads()
      >>> at_a_time = tf.config.threading.get_inter_op_parallelism_threads()
      >>> threads.are_prepared() == ((threads_of_each, at_a_time) == (1, 2))
      True
    """
    threading = tf.config.threading
    return (threading.get_intra_op_parallelism_threads() == 1
            and threading.get_inter_op_parallelism_threads() == 2)
