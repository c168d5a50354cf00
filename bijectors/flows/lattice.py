"""Flows of fields on a lattice with periodic boundaries, which respect the symmetries."""

import functools

import keras
import tensorflow as tf

from bijectors.chain import Chain
from bijectors.coupling import bounded
from bijectors.flows.blocks import Blocks
from bijectors.flows.couplings import Couplings
from bijectors.residual import InvertibleResidual
from tfresflow import layers
from tfresflow.checks.rules import check
from tfresflow.checks.sizes import as_size, as_sizes
from tfresflow.layers.circular import wrapped

__all__ = ["phi4_couplings", "phi4_flow", "u1_flow"]

_ODD = functools.partial(layers.Tanh, frequency=5.0)


def phi4_flow(size, *, nblocks=8, idim=32, kernels=(3, 1, 3), coeff=0.98, act=_ODD,
              preact=False, actnorm=True, orders=2, certified=True, dense_net=None,
              power_iteration=None, log_det=None, solver=None, adjoint=None, seed=None, dtype=None,
              block=InvertibleResidual):
    """Scalar fields on a torus: residual blocks that respect the symmetries of phi^4 theory.

    Convolutions with circular padding, odd activations and no biases. So the flow f commutes with
    shifts around the torus and with the sign, `f(-x) = -f(x)`, and the density that it gives to a
    symmetric base has the symmetries of the action, whatever its weights are. Each block is
    followed by one scale for all sites, an ActNorm without a shift. Lip(g) <= coeff^3 for three
    kernels, in norms that are exact.

    Args:
      size: L of an L x L torus, or `[H, W]`; the event shape is `[H, W, 1]`.
      nblocks: residual blocks.
      idim: hidden channels of the convolutions.
      kernels: sizes of the convolutions of a block, none larger than the torus.
      coeff: bound of each layer's operator norm, in (0, 1), see `layers.InducedNormConv2D`.
      act: an odd activation: a layer of `tfresflow.layers` or its class, as `Sin` and `Tanh`, or a
        name. The default is `Tanh(frequency=5)`: without a frequency, `idim` channels that share
        a norm are next to linear, and the flow learns next to nothing but a Gaussian.
      preact: each branch begins with an activation.
      actnorm: a scale after each block.
      orders, certified, dense_net, power_iteration: as for `image_flow`; of order 2, norms on a
        torus are exact.
      log_det, solver, adjoint: of every block; see `InvertibleResidual`.
      seed: integer for the initial weights; None: different ones each time.
      dtype: of the weights.
      block: class of the blocks, or several, see `toy_flow`; not `Coupling`, see `phi4_couplings`.

    Returns:
      A `Chain` from `[N, H, W, 1]` to `[N, H, W, 1]`.

    Raises:
      ValueError: if `act` is not odd, or another argument is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import phi4_flow
      >>> flow = phi4_flow(4, nblocks=2, idim=4)
      >>> x = tf.random.normal([5, 4, 4, 1])
      >>> z, log_det = flow.forward_and_log_det(x, seed=0)
      >>> bool(tf.reduce_all(abs(flow.forward(-x, seed=0) + z) < 1e-5))
      True
      >>> [b.name for b in reversed(flow.bijectors)]      # in the order in which x meets them
      ['conv0', 'actnorm', 'conv1', 'actnorm']

    References: Chen et al., Residual Flows (2019); for the theory see `targets.Phi4`.
    """
    shape, nblocks, idim = _lattice(size, 1), as_size("nblocks", nblocks), as_size("idim", idim)
    kernels = _kernels(kernels)
    _check_odd(act)
    blocks = Blocks(
        act=act, preact=preact, seed=seed, dtype=dtype, coeff=coeff, orders=orders,
        certified=certified, dense_net=dense_net, power_iteration=power_iteration, log_det=log_det,
        solver=solver, adjoint=adjoint, block=block, padding="circular", use_bias=False)
    steps = []
    for _ in range(nblocks):
        steps.append(blocks.conv(shape, idim, kernels))
        steps += [blocks.actnorm(shape, shift=False)] if actnorm else []
    return Chain(steps[::-1])


def u1_flow(size, *, nblocks=8, idim=32, kernels=(3, 1, 3), coeff=0.98, act=layers.LipSwish,
            power_iteration=None, log_det=None, solver=None, adjoint=None, seed=None, dtype=None,
            block=InvertibleResidual):
    """Angles of the links of a torus: residual blocks that commute with gauge transformations.

        f(theta) = theta + D^T h(cos D theta, sin D theta) / ||D||^2

    D takes links to plaquettes, and h is a network of convolutions with circular padding, of
    Lipschitz constant at most coeff^3 for three kernels, which is then that of the branch. f
    commutes with gauge transformations and with shifts around the torus, and
    `f(theta + 2 pi) = f(theta) + 2 pi` for each link: it is a map of the torus of angles to itself.

    The base is uniform, `tfd.Independent(tfd.VonMises(zeros, 0.), 3)` with zeros of the event
    shape: constant wherever z is, so that the density is one of angles on `[-pi, pi)`. Samples may
    lie beyond; targets of angles, as `targets.U1`, do not mind.

    Args:
      size: L of an L x L torus, or `[H, W]`; the event shape is `[H, W, 2]`: of each site the links
        along the first and the second axis.
      nblocks, idim, kernels, coeff: see `phi4_flow`.
      act: activation of h, any: see `layers.as_activation`.
      power_iteration, log_det, solver, adjoint, seed, dtype, block: see `phi4_flow`.

    Returns:
      A `Chain` from `[N, H, W, 2]` to `[N, H, W, 2]`.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> import math
      >>> import tensorflow as tf
      >>> from bijectors.flows import u1_flow
      >>> flow, x = u1_flow(4, nblocks=2, idim=4), tf.random.normal([5, 4, 4, 2])
      >>> turned = flow.forward(x + 2 * math.pi, seed=0) - 2 * math.pi
      >>> bool(tf.reduce_all(abs(turned - flow.forward(x, seed=0)) < 1e-4))
      True

    References: Kanwar et al., Equivariant flow-based sampling for lattice gauge theory (2020).
    """
    shape, nblocks, idim = _lattice(size, 2), as_size("nblocks", nblocks), as_size("idim", idim)
    kernels = _kernels(kernels)
    blocks = _GaugeBlocks(
        act=act, seed=seed, dtype=dtype, coeff=coeff, power_iteration=power_iteration,
        log_det=log_det, solver=solver, adjoint=adjoint, block=block, padding="circular")
    return Chain([blocks.gauge(shape, idim, kernels) for _ in range(nblocks)][::-1])


def phi4_couplings(size, *, nblocks=16, idim=8, kernels=(3, 3, 3), act="leaky_relu", seed=None,
                   dtype=None):
    """Scalar fields on a torus: affine couplings, the baseline of the papers on phi^4 theory.

    The sites of a checkerboard move in turns with the others, each by a scale and a shift from a
    network of convolutions with circular padding. They commute with shifts of the board onto
    itself, not with all shifts, and not with the sign.

    Args:
      size: L of an L x L torus, or `[H, W]`; the event shape is `[H, W, 1]`.
      nblocks: couplings.
      idim: hidden channels of the networks.
      kernels: sizes of the convolutions of a network, none larger than the torus.
      act: activation, see `layers.as_activation`.
      seed: integer for the initial weights; None: different ones each time.
      dtype: of the weights.

    Returns:
      A `Chain` from `[N, H, W, 1]` to `[N, H, W, 1]`.

    Raises:
      ValueError: if an argument is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import phi4_couplings
      >>> flow, x = phi4_couplings(4, nblocks=2), tf.random.normal([5, 4, 4, 1])
      >>> z, log_det = flow.forward_and_log_det(x)
      >>> bool(tf.reduce_all(abs(flow.inverse(tf.identity(z)) - x) < 1e-4))
      True

    References: Albergo, Kanwar and Shanahan, Flow-based generative models for Markov chain Monte
    Carlo in lattice field theory (2019).
    """
    shape, nblocks, idim = _lattice(size, 1), as_size("nblocks", nblocks), as_size("idim", idim)
    kernels = _kernels(kernels)
    check(max(kernels) <= min(shape[:2]), "kernels",
          f"not be larger than the torus, {shape[:2]}", kernels)
    blocks = Couplings(act=act, preact=False, seed=seed, dtype=dtype, convolution=_CircularConv2D,
                       log_scale=bounded)
    return Chain([blocks.conv(shape, idim, kernels) for _ in range(nblocks)][::-1])


class _GaugeBlocks(Blocks):
    """Makes residual blocks of the angles of links."""

    def gauge(self, event_shape, idim, kernels):
        """A block of convolutions `2 -> idim -> ... -> 1` from plaquettes to plaquettes."""
        stack, inputs = [layers.Plaquettes(dtype=self.dtype)], 2
        for kernel in kernels[:-1]:
            stack += [self._conv(idim, kernel, inputs, None), self._act(dtype=self.dtype)]
            inputs = idim * self._expansion
        # A bias, the same for all plaquettes, would add nothing to any link.
        last = {**self._linear(kernels[-1] ** 2 * inputs), "use_bias": False}
        stack += [layers.InducedNormConv2D(1, kernels[-1], padding=self.padding, **last),
                  layers.LinksOfPlaquettes(dtype=self.dtype)]
        return self._of(stack, event_shape, "gauge")


@keras.saving.register_keras_serializable("bijectors")
class _CircularConv2D(keras.layers.Conv2D):
    """A convolution with circular padding, of any norm."""

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(filters, kernel_size, **{**kwargs, "padding": "valid",
                                                  "data_format": "channels_last"})

    def call(self, inputs):
        return super().call(wrapped(inputs, self.kernel.shape))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)


def _lattice(size, channels):
    """The event shape `(H, W, channels)`."""
    sizes = as_sizes("size", size)
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    check(len(sizes) == 2 or len(sizes) == 3 and sizes[2] == channels, "size",
          f"be L, [H, W] or [H, W, {channels}]", size)
    check(min(sizes[:2]) >= 2, "size", "be at least 2 a side", size)
    return (*sizes[:2], channels)


def _kernels(kernels):
    kernels = as_sizes("kernels", kernels)
    check(len(kernels) >= 2, "kernels", "be at least two sizes", kernels)
    return kernels


def _check_odd(act):
    """Raises `ValueError` unless an activation commutes with the sign."""
    layer, x = layers.as_activation(act)(dtype="float64"), tf.linspace(-5.0, 5.0, 12)[tf.newaxis]
    x = tf.cast(x, tf.float64)
    check(bool(tf.reduce_all(tf.abs(layer(-x) + layer(x)) < 1e-12)), "act",
          "be odd, f(-x) = -f(x), as Sin and Tanh of tfresflow.layers", act)
