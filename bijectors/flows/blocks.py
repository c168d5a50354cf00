"""Residual blocks as the reference builds them, which all architectures share."""

import dataclasses
import itertools
import math
import typing

import keras

from bijectors.actnorm import ActNorm
from bijectors.residual import InvertibleResidual
from tfresflow import layers

__all__ = ["Blocks"]


@dataclasses.dataclass
class Blocks:
    """Makes residual blocks and ActNorms from one set of choices.

    Args:
      coeff: bound of each layer's operator norm, in (0, 1).
      act: class of the activation, of `tfresflow.layers`.
      preact: begin a branch with an activation.
      power_iteration: `layers.PowerIteration`, or None for the layers' default.
      log_det, solver: given to every block.
      seed: integer for the initial weights; None for different ones each time.
      dtype: of the weights.
    """

    coeff: float
    act: type
    preact: bool = True
    power_iteration: typing.Any = None
    log_det: typing.Any = None
    solver: typing.Any = None
    seed: int | None = None
    dtype: str | None = None

    def __post_init__(self):
        self._counter = itertools.count()
        self._seeds = itertools.count(0 if self.seed is None else 1_000_003 * (self.seed + 1))

    def conv(self, event_shape, idim, kernels, preact=None):
        """A block of convolutions `C -> idim -> ... -> idim -> C` with the given kernel sizes."""
        channels = event_shape[-1]
        sizes = [idim] * (len(kernels) - 1) + [channels]
        fans = [kernel ** 2 * inputs for kernel, inputs in zip(kernels, [channels, *sizes])]
        linear = [layers.InducedNormConv2D(size, kernel, **self._linear(fan))
                  for size, kernel, fan in zip(sizes, kernels, fans)]
        return self._block(linear, event_shape, preact, "conv")

    def dense(self, event_shape, hidden, preact=None):
        """A block of dense layers `D -> hidden[0] -> ... -> D`."""
        sizes = [*hidden, event_shape[-1]]
        linear = [layers.InducedNormDense(size, **self._linear(fan))
                  for size, fan in zip(sizes, [event_shape[-1], *hidden])]
        return self._block(linear, event_shape, preact, "dense")

    def actnorm(self, event_shape, per_element=False):
        """An ActNorm of these weights' type."""
        return ActNorm(event_shape, per_element=per_element, dtype=self.dtype)

    def _block(self, linear, event_shape, preact, kind):
        preact = self.preact if preact is None else preact
        stack = [self.act(dtype=self.dtype)] if preact else []
        for layer in linear[:-1]:
            stack += [layer, self.act(dtype=self.dtype)]
        branch = keras.Sequential([*stack, linear[-1]])
        return InvertibleResidual(branch, event_shape, self.log_det, self.solver,
                                  name=f"{kind}{next(self._counter)}")

    def _linear(self, fan_in):
        """The reference's initial weights: kernel and bias uniform in +-1/sqrt(fan_in)."""
        kernel_seed, bias_seed = (None, None) if self.seed is None else (
            next(self._seeds), next(self._seeds))
        bound = 1 / math.sqrt(fan_in)
        return {"coeff": self.coeff, "power_iteration": self.power_iteration, "dtype": self.dtype,
                "kernel_initializer": keras.initializers.RandomUniform(-bound, bound, kernel_seed),
                "bias_initializer": keras.initializers.RandomUniform(-bound, bound, bias_seed)}
