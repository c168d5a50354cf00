"""Products with the Hessian of a function."""

import tensorflow as tf

from tfresflow.checks.rules import check, check_function

__all__ = ["hessian_vector_product"]


@tf.autograph.experimental.do_not_convert
def hessian_vector_product(function, x, v):
    """`H v`, where H is the Hessian of a function at x, without the matrix H.

    It is the gradient of `<gradient of the function, v>`, and costs about as much as two gradients.

    Args:
      function: x -> value, a scalar or a tensor whose sum is differentiated: of `[N]` values, each
        of its own example, the result is the product with the Hessian of each example.
      x: a tensor or a variable, or a nested structure of them: `model.trainable_variables` for the
        Hessian with respect to weights, which `function` may then read by itself.
      v: as x, of the same shapes.

    Returns:
      As x; zeros for what the gradient does not depend on.

    Raises:
      ValueError: if `v` has not the structure and the shapes of `x`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import functions
      >>> x, v = tf.constant([[1., 2.], [3., 4.]]), tf.constant([[1., 0.], [1., 1.]])
      >>> def function(x):
      ...     return x[:, 0] ** 2 * x[:, 1]           # Hessian [[2 x_1, 2 x_0], [2 x_0, 0]]
      >>> print(functions.hessian_vector_product(function, x, v).numpy())
      [[ 4.  2.]
       [14.  6.]]

    References: Pearlmutter, Fast exact multiplication by the Hessian (1994).
    """
    check_function("function", function, "be a function of x, and come before `x`", 1)
    try:
        tf.nest.assert_same_structure(x, v)
    except (TypeError, ValueError):
        check(False, "v", "have the structure of `x`", type(v).__name__)
    sources = [_source(t) for t in tf.nest.flatten(x)]
    along = [tf.convert_to_tensor(t, s.dtype) for t, s in zip(tf.nest.flatten(v), sources)]
    for t, s in zip(along, sources):
        check(t.shape.is_compatible_with(s.shape), "v", f"have the shape of `x`, {s.shape}",
              t.shape)
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(sources)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            value = function(tf.nest.pack_sequence_as(x, sources))
        gradient = tape.gradient(value, sources, unconnected_gradients="zero")
        products = [tf.reduce_sum(tf.convert_to_tensor(d) * t) for d, t in zip(gradient, along)]
    found = outer.gradient(products, sources, unconnected_gradients="zero")
    return tf.nest.pack_sequence_as(x, list(map(tf.convert_to_tensor, found)))


def _source(x):
    """What a tape can watch: of a Keras variable, that of TensorFlow."""
    if isinstance(x, tf.Variable):
        return x
    return x.value if isinstance(getattr(x, "value", None), tf.Variable) else (
        tf.convert_to_tensor(x))
