"""Convolutions of bounded operator norm, in one to three dimensions."""

import keras

from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_size, as_sizes
from tfresflow.layers.circular import CircularConvolution
from tfresflow.layers.circular_norm import CircularNorm
from tfresflow.layers.convolution import Convolution
from tfresflow.layers.induced_norm import InducedNorm

__all__ = ["InducedNormConv1D", "InducedNormConv2D", "InducedNormConv3D"]

_AXES = {1: "length", 2: "height and width", 3: "depth, height and width"}


class _InducedNormConv(InducedNorm):
    """What they share: mixin of a Keras convolution."""

    def __init__(self, filters, kernel_size, coeff=0.98, domain=None, codomain=2,
                 power_iteration=None, certified=True, padding="same", **kwargs):
        size = as_sizes("kernel_size", kernel_size)
        kwargs.setdefault("data_format", "channels_last")  # keras.json may say otherwise
        check(padding in ("same", "circular"), "padding", "be 'same' or 'circular'", padding)
        super().__init__(as_size("filters", filters), size[0] if len(size) == 1 else size,
                         padding="same", **kwargs)
        self.padding = padding  # Keras does not know the other one
        ones = (1,) * self.rank
        allowed = {"strides": ones, "dilation_rate": ones, "groups": 1,
                   "data_format": "channels_last"}
        for name, value in allowed.items():
            if getattr(self, name) != value:
                raise ValueError(f"`{name}` must be {value!r}. "
                                 f"Received: {name}={getattr(self, name)!r}")
        self._set_norm(coeff, domain, codomain, power_iteration, certified)

    def build(self, input_shape):
        super().build(input_shape)
        p, q = self.fixed_orders
        ones = (1,) * self.rank
        self._any_size = self.kernel_size == ones and None not in (p, q) and p <= q
        self._size = ones if self._any_size else tuple(input_shape[1:-1])
        if None in self._size:
            raise ValueError(f"`input_shape` must have a known {_AXES[self.rank]}: the norm of "
                             "a convolution depends on the size. "
                             f"Received: input_shape={input_shape}")
        if self.padding == "circular" and not self._any_size:
            check(all(k <= s for k, s in zip(self.kernel_size, self._size)), "kernel_size",
                  f"not be larger than the torus, {self._size}", self.kernel_size)
        self._build_norm()

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    @property
    def function(self):
        kind = CircularConvolution if self.padding == "circular" else Convolution
        return kind(self.activation, self._size, self._any_size)

    def _choose_norm(self):
        if self.padding == "circular" and self.fixed_orders == (2, 2):
            return CircularNorm()
        return super()._choose_norm()


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormConv1D(_InducedNormConv, keras.layers.Conv1D):
    """`y = activation(W * x + b)` of sequences `[N, T, C]`: see `InducedNormConv2D`.

    Mirrors `keras.layers.Conv1D` with stride 1 and "same" padding, or "circular", on a circle;
    "causal" padding is refused.
    With "same" padding the layer takes shorter sequences than it was built for, too.

    Args:
      filters: positive integer.
      kernel_size: integer.
      coeff, domain, codomain, power_iteration, certified, **kwargs: see `InducedNormConv2D`.

    Raises:
      ValueError: see `InducedNormConv2D`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> conv = layers.InducedNormConv1D(1, 3, coeff=0.5, kernel_initializer="ones")
      >>> conv(tf.ones([1, 8, 1])).shape
      TensorShape([1, 8, 1])
      >>> round(float(conv.measure_norm()), 2)
      0.5

    References: Chen et al., Residual Flows (2019), section 2.3.
    """


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormConv2D(_InducedNormConv, keras.layers.Conv2D):
    """`y = activation(W * x + b)`, the norm of the convolution operator at most `coeff`.

    The norm is that of the operator on images of the size that the layer was built for,
    zero padding included, not that of the kernel reshaped to a matrix (which bounds
    nothing: a 3x3 kernel normalised so had operator norm 1.58). The operator on smaller images
    is a compression of it and has no larger norm, so the layer takes smaller images, and refuses
    larger ones. A 1x1 kernel is a matrix at each pixel: it takes images of any size, unless the
    codomain's order may be lower than the domain's. Where power iteration finds the norm, it is at
    most `coeff` up to the iteration's `rtol`, see `InducedNormDense`.

    With `padding="circular"` the image is a torus: what leaves at one side comes in at the other.
    The layer then commutes with shifts around the torus, and takes images of one size. Its 2-norm
    is exact, the largest singular value over all frequencies of the kernel's Fourier transform, and
    `power_iteration` plays no part. For lattices and other periodic data.

    Mirrors `keras.layers.Conv2D` with stride 1 and channels last:
    `[N, H, W, C] -> [N, H, W, filters]`.

    Args:
      filters: positive integer.
      kernel_size: integer or pair.
      coeff: bound of the operator norm, in (0, 1).
      padding: "same", with zeros, or "circular".
      domain, codomain, power_iteration, certified: see `InducedNormDense`; the norms are those of
        a whole image.
      **kwargs: those of `keras.layers.Conv2D`.

    Raises:
      ValueError: if `coeff` is not in (0, 1), an order is not in [1, inf], or the convolution is
        strided, dilated, grouped or padded in another way; in `build`, if the size is not known and
        the norm depends on it, or a circular kernel is larger than the image.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> conv = layers.InducedNormConv2D(1, 3, coeff=0.5, kernel_initializer="ones")
      >>> conv(tf.ones([1, 8, 8, 1])).shape, conv(tf.ones([1, 5, 5, 1])).shape
      (TensorShape([1, 8, 8, 1]), TensorShape([1, 5, 5, 1]))
      >>> round(float(conv.measure_norm()), 2)  # of the operator on 8x8 images
      0.5
      >>> around = layers.InducedNormConv2D(2, 3, padding="circular")
      >>> x = tf.random.normal([1, 4, 4, 1])
      >>> shifted, of_shifted = tf.roll(around(x), 3, axis=2), around(tf.roll(x, 3, axis=2))
      >>> bool(tf.reduce_all(abs(of_shifted - shifted) < 1e-5))
      True

    References: Chen et al., Residual Flows (2019), section 2.3; Gouk et al., Regularisation of
    neural networks by enforcing Lipschitz continuity (2021); Sedghi et al., The singular values of
    convolutional layers (2019).
    """


@keras.saving.register_keras_serializable("tfresflow")
class InducedNormConv3D(_InducedNormConv, keras.layers.Conv3D):
    """`y = activation(W * x + b)` of volumes `[N, D, H, W, C]`: see `InducedNormConv2D`.

    Mirrors `keras.layers.Conv3D` with stride 1, "same" or "circular" padding and channels last.

    Args:
      filters: positive integer.
      kernel_size: integer or triple.
      coeff, domain, codomain, power_iteration, certified, **kwargs: see `InducedNormConv2D`.

    Raises:
      ValueError: see `InducedNormConv2D`.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> conv = layers.InducedNormConv3D(1, 3, coeff=0.5, kernel_initializer="ones")
      >>> conv(tf.ones([1, 4, 4, 4, 1])).shape
      TensorShape([1, 4, 4, 4, 1])
      >>> round(float(conv.measure_norm()), 2)
      0.5

    References: Chen et al., Residual Flows (2019), section 2.3.
    """
