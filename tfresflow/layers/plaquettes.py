"""From the angles of a lattice's links to its plaquettes and back: for gauge theories.

With D the linear map from links to plaquettes and h any network of circular convolutions,

    g(theta) = D^T h(cos D theta, sin D theta)

does not change with a gauge transformation of theta, nor when 2 pi is added to an angle, and
changes a link by a gauge-invariant amount. So `theta + g(theta)` commutes with both.
"""

import dataclasses
import math

import keras
import tensorflow as tf

from tfresflow.checks.rules import check
from tfresflow.functions.branch import PureLayer
from tfresflow.functions.function import Function
from tfresflow.functions.torus import curl, plaquettes

__all__ = ["LinksOfPlaquettes", "Plaquettes"]


class _OnTorus(PureLayer, keras.layers.Layer):
    """What both have in common: a torus of two dimensions, whose size is known."""

    channels = 0  # of the input

    def build(self, input_shape):
        check(len(input_shape) == 4 and None not in input_shape[1:3], "input_shape",
              "be [N, H, W, C] of a known height and width", input_shape)
        check(input_shape[3] == self.channels, "input_shape",
              f"have {self.channels} on its last axis", input_shape)
        self._size = tuple(input_shape[1:3])
        self.built = True

    @property
    def norm(self):
        """`||D||`, exactly: `sqrt(8)` where height and width are even, else a little less."""
        return math.sqrt(sum(4 * math.sin(math.pi * (s // 2) / s) ** 2 for s in self._size))


@keras.saving.register_keras_serializable("tfresflow")
class Plaquettes(_OnTorus):
    """`[cos D theta, sin D theta]`, theta the angles of links: `[..., H, W, 2] -> [..., H, W, 2]`.

        (D theta)(y) = theta_0(y) + theta_1(y+0) - theta_0(y+1) - theta_1(y)

    Link 0 of a site y leads along the first axis of the lattice, link 1 along the second. The
    Lipschitz constant is `||D||`, as angle -> (cos, sin) has slope 1; `||D||^2` is the largest of
    `4 sin^2(k_0 / 2) + 4 sin^2(k_1 / 2)` over the lattice's frequencies k: 8 on an even torus.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> of_links = layers.Plaquettes()
      >>> of_links(tf.zeros([1, 4, 4, 2]))[0, 0, 0].numpy().tolist()
      [1.0, 0.0]
      >>> round(of_links.lipschitz ** 2, 6)
      8.0

    References: Kanwar et al., Equivariant flow-based sampling for lattice gauge theory (2020).
    """

    channels = 2

    @property
    def lipschitz(self):
        """`||D||`, exact in the 2-norm."""
        return self.norm

    @property
    def function(self):
        return _CosAndSin()

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("tfresflow")
class LinksOfPlaquettes(_OnTorus):
    """`D^T h / ||D||^2` of what plaquettes have, `[..., H, W, 1] -> [..., H, W, 2]`.

    D is that of `Plaquettes`; each link gets what the plaquette on one side of it has, less that
    on the other. The Lipschitz constant is `1 / ||D||`: between the two layers, a network of
    Lipschitz constant L makes a branch of Lipschitz constant L. It is linear, and a constant gives
    0, so the layer before it needs no bias.

    Example:
      >>> import tensorflow as tf
      >>> from tfresflow import layers
      >>> conv = layers.InducedNormConv2D(1, 3, coeff=0.9, padding="circular", use_bias=False)
      >>> g = layers.Branch([layers.Plaquettes(), conv, layers.LinksOfPlaquettes()])
      >>> g(tf.zeros([5, 4, 4, 2])).shape
      TensorShape([5, 4, 4, 2])
      >>> product = g.layers[0].lipschitz * g.layers[1].lipschitz * g.layers[2].lipschitz
      >>> round(product, 6)
      0.9
    """

    channels = 1

    @property
    def lipschitz(self):
        """`1 / ||D||`, exact in the 2-norm."""
        return 1 / self.norm

    @property
    def function(self):
        return _Curl(self.norm ** -2)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)


@dataclasses.dataclass(frozen=True)
class _CosAndSin(Function):
    def __call__(self, weights, x):
        angles = plaquettes(x)
        return tf.stack([tf.cos(angles), tf.sin(angles)], axis=-1)

    def linearise(self, weights, x):
        y = self(weights, x)
        cos, sin = tf.unstack(y, axis=-1)
        return y, lambda u: curl(u[..., 1] * cos - u[..., 0] * sin)

    def linearise_forward(self, weights, x):
        y = self(weights, x)
        slopes = tf.stack([-y[..., 1], y[..., 0]], axis=-1)
        return y, lambda t: plaquettes(t)[..., tf.newaxis] * slopes


@dataclasses.dataclass(frozen=True)
class _Curl(Function):
    factor: float

    def __call__(self, weights, x):
        return self.factor * curl(x[..., 0])

    def linearise(self, weights, x):
        return self(weights, x), lambda u: self.factor * plaquettes(u)[..., tf.newaxis]

    def linearise_forward(self, weights, x):
        return self(weights, x), lambda t: self(weights, t)

    def output_shape(self, weights, shape):
        return (*shape[:-1], 2)
