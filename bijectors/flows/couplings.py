"""Coupling blocks in the place of residual ones: the baseline of the papers."""

import dataclasses
import functools
import itertools
import typing

import keras

from bijectors.coupling import Coupling, checkerboard, contracting, sides
from bijectors.flows.blocks import Blocks, Maker
from tfresflow import layers

__all__ = ["Couplings", "maker"]


def maker(block, act, preact, seed, dtype, context_shape, gates, **of_residual):
    """What makes the blocks of an architecture.

    Args:
      block: `Coupling`, or what `Blocks` takes.
      act, preact, seed, dtype, context_shape, gates: see `Maker`.
      **of_residual: what `Blocks` takes beside it, and couplings do not.
    """
    common = {"act": act, "preact": preact, "seed": seed, "dtype": dtype,
              "context_shape": context_shape, "gates": gates}
    if block is Coupling:
        return Couplings(**common)
    return Blocks(block=block, **common, **of_residual)


@dataclasses.dataclass(kw_only=True)
class Couplings(Maker):
    """Makes affine couplings, one half in turns with the other, and ActNorms.

    Their networks have the layers that a residual branch has, without bounds of their norms.
    Couplings of images split the channels, or, where their number is odd, take a checkerboard.

    Args:
      act, preact, seed, dtype, context_shape, gates: see `Maker`.
      convolution: class of the convolutions, or a function of their arguments.
      log_scale: see `Coupling`.
    """

    convolution: typing.Any = functools.partial(keras.layers.Conv2D, padding="same")
    log_scale: typing.Any = contracting

    def __post_init__(self):
        super().__post_init__()
        self._turns, self._masked = itertools.count(), False

    def begin_scale(self, masked):
        self._turns, self._masked = itertools.count(), masked

    def conv(self, event_shape, idim, kernels, preact=None):
        """A coupling by convolutions with the given kernel sizes, `idim` hidden channels."""
        masked = self._masked or event_shape[-1] % 2 == 1

        def linear(size, kernel, inputs):
            return self.convolution(size, kernel, **self._initial(kernel ** 2 * inputs))

        return self._block(linear, [(idim, k) for k in kernels[:-1]], kernels[-1], event_shape,
                           preact, checkerboard(event_shape) if masked else None, "coupling")

    def dense(self, event_shape, hidden, preact=None):
        """A coupling by dense layers."""
        def linear(size, kernel, inputs):
            return keras.layers.Dense(size, **self._initial(inputs))

        return self._block(linear, [(size, 1) for size in hidden], 1, event_shape, preact, None,
                           "dense_coupling")

    def _block(self, linear, hidden, last, event_shape, preact, mask, kind):
        swap = next(self._turns) % 2 == 1
        inputs, moved = sides(event_shape[-1], swap, mask)
        stack, inputs = self._begun(inputs, preact)
        for size, kernel in hidden:
            stack += [linear(size, kernel, inputs), *self._film(), self._act(dtype=self.dtype)]
            inputs = size * self._expansion
        network = layers.Branch([*stack, linear(2 * moved, last, inputs)])
        return Coupling(network, event_shape, self.log_scale, mask, swap,
                        f"{kind}{next(self._counter)}")
