"""The architecture of the two-dimensional densities."""

from bijectors.chain import Chain
from bijectors.flows.blocks import Blocks
from tfresflow import layers

__all__ = ["toy_flow"]


def toy_flow(event_shape=(2,), *, nblocks=100, dims=(128, 128, 128, 128), coeff=0.9,
             act=layers.LipSwish, preact=False, actnorm=True, orders=2, certified=True,
             dense_net=None, power_iteration=None, log_det=None, solver=None, adjoint=None,
             seed=None, dtype=None):
    """Vectors to latent vectors: residual blocks of dense layers.

    Args:
      event_shape: `[D]`.
      nblocks: residual blocks.
      dims: hidden widths of a block.
      coeff: bound of each layer's operator norm, in (0, 1).
      act: class of the activation, of `tfresflow.layers`.
      preact: each block begins with an activation.
      actnorm: an ActNorm after each block.
      orders: of the norms between the layers of a branch, one a layer or a single one; see
        `Blocks`.
      certified: keep proven bounds of the norms below 1, too; see `layers.InducedNormDense`.
      dense_net: `DenseNet(depth, growth)` for branches that concatenate in place of those of
        `dims`; None: plain ones.
      power_iteration: `layers.PowerIteration` of the layers.
      log_det, solver, adjoint: of every block; see `InvertibleResidual`.
      seed: integer for the initial weights.
      dtype: of the weights.

    Returns:
      A `Chain` from `[N, D]` to `[N, D]`.

    References: Chen et al., Residual Flows (2019), and the code published with it.
    """
    if nblocks < 1:
        raise ValueError(f"`nblocks` must be positive. Received: nblocks={nblocks}")
    if not dims:
        raise ValueError("`dims` must be at least one hidden width. Received: dims=()")
    shape = tuple(event_shape)
    blocks = Blocks(coeff, act, preact, orders, certified, dense_net, power_iteration, log_det,
                    solver, adjoint, seed, dtype)
    steps = []
    for _ in range(nblocks):
        steps.append(blocks.dense(shape, list(dims)))
        steps += [blocks.actnorm(shape)] if actnorm else []
    return Chain(steps[::-1])
