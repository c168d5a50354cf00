"""Optimizers for flows, which have many small weights."""

import keras
import tensorflow as tf

__all__ = ["Adam"]


@keras.saving.register_keras_serializable("tfresflow")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` that updates each variable in one operation instead of two dozen.

    The numbers are the same, to rounding. A flow of a hundred small blocks has over a thousand
    variables: the time of their update is that of its operations, not of arithmetic.

    With `amsgrad=True`, and for variables that are neither float32 nor float64, the update is
    Keras's own.

    Args:
      **kwargs: those of `keras.optimizers.Adam`.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from tfresflow import optimizers
      >>> v = keras.Variable([1.0, 2.0])
      >>> _ = optimizers.Adam(learning_rate=0.1).apply([tf.constant([3.0, -5.0])], [v])
      >>> print(v.numpy().round(2))  # the first step is as long as the rate, whatever the gradient
      [0.9 2.1]

    References: Kingma and Ba, Adam: a method for stochastic optimization (2015), algorithm 1.
    """

    def update_step(self, gradient, variable, learning_rate):
        if not self._is_fused(variable):
            return super().update_step(gradient, variable, learning_rate["rate"])
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle, grad=tf.cast(gradient, variable.dtype),
            **learning_rate[variable.dtype.name])

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # What is the same for all variables is computed once: beside the rate, and in its place.
        dtypes = {v.dtype for v in (v.value for v in trainable_variables) if self._is_fused(v)}
        scalars = {dtype.name: self._scalars(learning_rate, dtype) for dtype in dtypes}
        super()._backend_update_step(grads, trainable_variables,
                                     {"rate": learning_rate, **scalars})

    def _is_fused(self, variable):
        return not self.amsgrad and variable.dtype in (tf.float32, tf.float64)

    def _scalars(self, learning_rate, dtype):
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        return {"beta1": beta_1, "beta2": beta_2, "beta1_power": beta_1 ** step,
                "beta2_power": beta_2 ** step, "lr": tf.cast(learning_rate, dtype),
                "epsilon": tf.constant(self.epsilon, dtype)}
