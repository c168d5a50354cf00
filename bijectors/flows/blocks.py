"""Residual blocks as the reference builds them, which all architectures share."""

import dataclasses
import itertools
import math
import numbers
import typing

import keras

from bijectors.actnorm import ActNorm
from bijectors.residual import InvertibleResidual
from tfresflow import layers
from tfresflow.checks.rules import check, check_kind
from tfresflow.checks.sizes import as_size

__all__ = ["Blocks", "DenseNet", "Maker"]


class DenseNet(typing.NamedTuple):
    """Options of i-DenseNet branches: `depth` dense concatenations, then one linear layer.

    Each concatenation is a `layers.LipschitzConcatenation` of a linear layer and an activation.

    Attributes:
      depth: number of concatenations in a branch.
      growth: channels, or units, of the linear layer in each; an activation that doubles the
        channels, as CLipSwish, adds twice as many.
      kernel: kernel size of these layers, if they are convolutions.
      learned: see `layers.LipschitzConcatenation`.

    Example:
      >>> from bijectors import norm_report
      >>> from bijectors.flows import DenseNet, toy_flow
      >>> net = DenseNet(depth=1, growth=4)
      >>> report = norm_report(toy_flow(nblocks=1, dense_net=net, act="CLipSwish", seed=0))
      >>> len(report.layers), report.certified            # that of the concatenation, the last
      (2, True)

    References: Perugachi-Diaz et al., Invertible DenseNets with Concatenated LipSwish (2021).
    """

    depth: int = 3
    growth: int = 172
    kernel: int = 3
    learned: bool = True


@dataclasses.dataclass(kw_only=True)
class Maker:
    """What makers of blocks have in common: activations, initial weights, contexts, ActNorms.

    Args:
      act: activation, see `layers.as_activation`.
      preact: begin a branch with an activation.
      seed: integer for the initial weights; None for different ones each time.
      dtype: of the weights.
      context_shape: of a conditional flow: each hidden layer has a `layers.FiLM` before its
        activation, each ActNorm a context.
      gates: see `layers.FiLM`.
    """

    act: typing.Any
    preact: bool = True
    seed: int | None = None
    dtype: str | None = None
    context_shape: tuple | None = None
    gates: bool = False

    def __post_init__(self):
        self._counter = itertools.count()
        self._act = layers.as_activation(self.act)
        # Channels of its output a channel of its input.
        self._expansion = getattr(self._act(dtype=self.dtype), "expansion", 1)
        seed = -1 if self.seed is None else as_size("seed", self.seed, 0)
        self._seeds = itertools.count(1_000_003 * (seed + 1))

    def actnorm(self, event_shape, per_element=False, shift=True):
        """An ActNorm of these weights' type."""
        return ActNorm(event_shape, per_element=per_element, dtype=self.dtype,
                       context_shape=self.context_shape, shift=shift)

    def begin_scale(self, masked):
        """What follows are the blocks of another scale, as the reference builds them.

        Args:
          masked: whether couplings of images take a checkerboard; else they split the channels.
        """

    def _begun(self, channels, preact):
        """`(layers, channels)` that a branch begins with."""
        begins = self.preact if preact is None else preact
        return ([self._act(dtype=self.dtype)], channels * self._expansion) if begins else (
            [], channels)

    def _film(self):
        """Where the context enters; nothing in a flow without one."""
        if self.context_shape is None:
            return []
        seed = None if self.seed is None else next(self._seeds)
        return [layers.FiLM(self.context_shape, self.gates, _uniform(
            self.context_shape[-1] ** -0.5, seed), dtype=self.dtype)]

    def _initial(self, fan_in):
        """The reference's initial weights: kernel and bias uniform in +-1/sqrt(fan_in)."""
        seeds = (None, None) if self.seed is None else (next(self._seeds), next(self._seeds))
        kernel, bias = (_uniform(1 / math.sqrt(fan_in), seed) for seed in seeds)
        return {"kernel_initializer": kernel, "bias_initializer": bias, "dtype": self.dtype}


def _uniform(bound, seed):
    return keras.initializers.RandomUniform(-bound, bound, seed)


@dataclasses.dataclass(kw_only=True)
class Blocks(Maker):
    """Makes residual blocks and ActNorms, all with the same options.

    Args:
      act, preact, seed, dtype, context_shape, gates: see `Maker`.
      coeff: bound of each layer's operator norm, in (0, 1), see `layers.InducedNormDense`.
      orders: of the norms, `(p_0, ..., p_{L-1})` for branches of L linear layers: layer l goes from
        p_l to p_{l+1}, the last one back to p_0. Each is a number in [1, inf], a
        `layers.LearnedOrder`, or None for the order before it; a single order is that of all.
      certified: see `layers.InducedNormDense`.
      dense_net: a `DenseNet`, or None for plain branches.
      power_iteration: `layers.PowerIteration`, or None for the layers' default.
      log_det, solver, adjoint: given to every block.
      padding: of convolutions, "same" or "circular".
      use_bias: whether linear layers have one.
      block: class of the blocks, as `InvertibleResidual` and `Monotone`, or a function of the same
        arguments; a list of several, which are taken in turns.

    Raises:
      ValueError: if `block` is none of these; later, if the number of `orders` is not that of the
        layers of a branch.
    """

    coeff: float
    orders: typing.Any = 2
    certified: bool = True
    dense_net: DenseNet | None = None
    power_iteration: typing.Any = None
    log_det: typing.Any = None
    solver: typing.Any = None
    adjoint: typing.Any = None
    padding: str = "same"
    use_bias: bool = True
    block: typing.Any = InvertibleResidual

    def __post_init__(self):
        super().__post_init__()
        kinds = list(self.block) if isinstance(self.block, (list, tuple)) else [self.block]
        check(kinds and all(map(callable, kinds)), "block", "be a class of blocks, as "
              "`InvertibleResidual` and `Monotone` of bijectors, or a list of them", self.block)
        self._kinds = itertools.cycle(kinds)
        check_kind("dense_net", self.dense_net, "be a flows.DenseNet(depth, growth), or None",
                   (DenseNet, type(None)))

    def conv(self, event_shape, idim, kernels, preact=None):
        """A block of convolutions `C -> idim -> ... -> C` with the given kernel sizes.

        `idim` is the number of hidden channels, or a list of them.
        """
        idim = [idim] * (len(kernels) - 1) if isinstance(idim, int) else idim
        sizes = [*zip(idim, kernels), (event_shape[-1], kernels[-1])]
        return self._block(self._conv, sizes, event_shape, preact, "conv")

    def dense(self, event_shape, hidden, preact=None):
        """A block of dense layers `D -> hidden[0] -> ... -> D`."""
        sizes = [(size, 1) for size in (*hidden, event_shape[-1])]
        return self._block(self._dense, sizes, event_shape, preact, "dense")

    def _block(self, linear, sizes, event_shape, preact, kind):
        if self.dense_net:
            depth, growth, kernel = (as_size(name, getattr(self.dense_net, name))
                                     for name in ("depth", "growth", "kernel"))
            sizes = [(growth, kernel)] * depth + [(event_shape[-1], 1)]
        stack, inputs = self._begun(event_shape[-1], preact)
        codomains = self._codomains(len(sizes))
        for (size, kernel), codomain in zip(sizes[:-1], codomains):
            hidden, act = linear(size, kernel, inputs, codomain), self._act(dtype=self.dtype)
            layer, outputs = [hidden, *self._film(), act], size * self._expansion
            if self.dense_net:
                layer = [layers.LipschitzConcatenation(
                    layers.Branch([hidden, act]), self.dense_net.learned, dtype=self.dtype),
                    *self._film()]
                outputs += inputs
            stack, inputs = stack + layer, outputs
        return self._of([*stack, linear(*sizes[-1], inputs, codomains[-1])], event_shape, kind)

    def _of(self, stack, event_shape, kind):
        """A block of these layers."""
        return next(self._kinds)(layers.Branch(stack), event_shape, self.log_det, self.solver,
                                 self.adjoint, name=f"{kind}{next(self._counter)}")

    def _codomains(self, count):
        """Of each layer: `orders`, one place on."""
        orders = self.orders
        if isinstance(orders, (numbers.Real, layers.LearnedOrder)):
            orders = [orders] + [None] * (count - 1)
        if len(orders) != count:
            raise ValueError("`orders` must be one for each linear layer of a branch, "
                             f"{count} here, or a single one. Received: orders={orders}")
        if self.dense_net and list(orders) != [2] + [None] * (count - 1):
            raise ValueError("`orders` must be 2 in a DenseNet, which concatenates in the 2-norm. "
                             f"Received: orders={orders}")
        return [*orders[1:], orders[0]]

    def _conv(self, filters, kernel, inputs, codomain):
        return layers.InducedNormConv2D(filters, kernel, codomain=codomain, padding=self.padding,
                                        **self._linear(kernel ** 2 * inputs))

    def _dense(self, units, kernel, inputs, codomain):
        del kernel
        return layers.InducedNormDense(units, codomain=codomain, **self._linear(inputs))

    def _linear(self, fan_in):
        return {"coeff": self.coeff, "power_iteration": self.power_iteration,
                "certified": self.certified, "use_bias": self.use_bias, **self._initial(fan_in)}
