"""Space to depth."""

import keras
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from tfresflow.checks.sizes import as_size, as_sizes

__all__ = ["Squeeze"]


@keras.saving.register_keras_serializable("bijectors")
class Squeeze(Flow):
    """Space to depth: `[N, H, W, C] -> [N, H/2, W/2, 4 C]`.

    Args:
      event_shape: `[H, W, C]`, height and width multiples of `factor`.
      factor: side of the square of pixels that becomes one.
      channels_first: the places of one channel are side by side in z, channel `factor^2 c + place`,
        as in PyTorch's `pixel_unshuffle`; else the channels of one place, `C place + c`, as in
        `tf.nn.space_to_depth`. Of one channel both are the same.
      name: of the bijector.

    Raises:
      ValueError: if `event_shape` is not `[H, W, C]`, or `factor` does not divide H and W.

    Example:
      >>> from bijectors import Squeeze
      >>> b = Squeeze([2, 2, 1])
      >>> b.forward([[[[1.], [2.]], [[3.], [4.]]]]).numpy().tolist()
      [[[[1.0, 2.0, 3.0, 4.0]]]]
      >>> x = [[[[1., -1.], [2., -2.]], [[3., -3.], [4., -4.]]]]          # of two channels
      >>> Squeeze([2, 2, 2], channels_first=True).forward(x).numpy().tolist()
      [[[[1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0]]]]

    References: Dinh et al., Density estimation using Real NVP (2017), section 3.6.
    """

    def __init__(self, event_shape, factor=2, channels_first=False, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        factor = as_size("factor", factor, 2)
        parameters = dict(locals())
        if len(event_shape) != 3 or any(side % factor for side in event_shape[:2]):
            raise ValueError("`event_shape` must be [H, W, C] with H and W multiples of "
                             f"factor={factor}. Received: event_shape={event_shape}")
        super().__init__(event_shape, parameters=parameters, name=name)
        self.factor = factor
        self.channels_first = channels_first

    def forward_and_log_det(self, x, seed=None):
        z = tf.nn.space_to_depth(x, self.factor)
        z = self._swapped(z, self.factor ** 2, x.shape[-1]) if self.channels_first else z
        return z, tf.zeros(batch_shape(x), x.dtype)

    def bind(self, seed=None, size=None, dtype=None):
        step = super().bind(seed, size, dtype)
        step.ends_scale = True
        return step

    def inverse_and_log_det(self, z, seed=None):
        log_det = tf.zeros(batch_shape(z), z.dtype)
        if self.channels_first:
            z = self._swapped(z, z.shape[-1] // self.factor ** 2, self.factor ** 2)
        return tf.nn.depth_to_space(z, self.factor), log_det

    def latent_shape(self, event_shape):
        h, w, c = event_shape
        return h // self.factor, w // self.factor, c * self.factor ** 2

    def data_shape(self, latent_shape):
        h, w, c = latent_shape
        return h * self.factor, w * self.factor, c // self.factor ** 2

    @staticmethod
    def _swapped(z, outer, inner):
        """Channel `i inner + j` to channel `j outer + i`."""
        parts = tf.reshape(z, [-1, *z.shape[1:-1], outer, inner])
        return tf.reshape(tf.linalg.matrix_transpose(parts), [-1, *z.shape[1:]])
