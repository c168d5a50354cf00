"""What is only known when a function runs: errors of one line, eager and traced."""

import tensorflow as tf

__all__ = ["checks"]


def checks(holds, message, *values):
    """Operations to depend on, which raise `tf.errors.InvalidArgumentError` unless `holds`.

    TensorFlow's own assertions, eager, say "Expected tf.Tensor(False, ...) to be true" first.

    Args:
      holds: a boolean scalar.
      message: what is wrong; the values follow it.
      *values: scalars.

    Returns:
      A list for `tf.control_dependencies`; empty where the check has been made already.

    Raises:
      tf.errors.InvalidArgumentError: at once, if eager.
    """
    if tf.is_symbolic_tensor(holds):
        return [tf.debugging.Assert(holds, [message, *values])]
    if not holds:
        raise tf.errors.InvalidArgumentError(None, None, " ".join([message, ", ".join(
            f"{float(value):g}" for value in values)]))
    return []
