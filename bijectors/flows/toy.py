"""The architecture of the two-dimensional densities."""

from bijectors.chain import Chain
from bijectors.flows.context import embedded, shape_within
from bijectors.flows.couplings import maker
from bijectors.residual import InvertibleResidual
from tfresflow import layers
from tfresflow.checks.sizes import as_size, as_sizes

__all__ = ["toy_flow"]


def toy_flow(event_shape=(2,), *, nblocks=100, dims=(128, 128, 128, 128), coeff=0.9,
             act=layers.LipSwish, preact=False, actnorm=True, orders=2, certified=True,
             dense_net=None, power_iteration=None, log_det=None, solver=None, adjoint=None,
             seed=None, dtype=None, block=InvertibleResidual, context_shape=None,
             context_network=None, context_gates=False):
    """Vectors to latent vectors: residual blocks of dense layers.

    Args:
      event_shape: `[D]`, or D.
      nblocks: residual blocks.
      dims: widths of the hidden layers of a branch; a single number for one hidden layer.
      coeff: bound of each layer's operator norm, in (0, 1), see `layers.InducedNormDense`.
      act: activation: a class of `tfresflow.layers`, or a name; see `layers.as_activation`.
      preact: each branch begins with an activation.
      actnorm: an ActNorm after each block.
      orders: of the norms of a branch, as for `image_flow`.
      certified: keep proven bounds of the norms below 1, too; see `layers.InducedNormDense`.
      dense_net: `DenseNet(depth, growth)` for i-DenseNet branches, which ignore `dims`; None: plain
        ones.
      power_iteration: `layers.PowerIteration` of the layers.
      log_det, solver, adjoint: of every block; see `InvertibleResidual`.
      seed: integer for the initial weights; None: different ones each time.
      dtype: of the weights.
      block: class of the blocks, `InvertibleResidual` or `Monotone` of bijectors, or a function of
        their arguments; a list of several, which are taken in turns: an implicit flow is of
        `[InvertibleResidual, Inverted.of(InvertibleResidual)]`. `Coupling`: affine couplings, one
        half in turns with the other, whose networks have the same layers without bounds.
      context_shape: of a conditional flow: shape of one context, `[K]` or K; `[]` for labels, with
        a network; None: no context.
      context_network: a Keras layer or model of the context, see `Embedded`; without one the
        context enters the blocks as it is.
      context_gates: see `layers.FiLM`.

    Returns:
      A `Chain` from `[N, D]` to `[N, D]`.

    Raises:
      ValueError: if `event_shape` is not `[D]`, or another argument is not as described.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import toy_flow
      >>> flow = toy_flow(nblocks=2, dims=8)
      >>> z, log_det = flow.forward_and_log_det(tf.ones([5, 2]), seed=0)
      >>> z.shape, log_det.shape
      (TensorShape([5, 2]), TensorShape([5]))
      >>> [b.name for b in reversed(flow.bijectors)]      # in the order in which x meets them
      ['dense0', 'actnorm', 'dense1', 'actnorm']

    References: Chen et al., Residual Flows (2019), and the code published with it.
    """
    nblocks, dims = as_size("nblocks", nblocks), as_sizes("dims", dims)
    shape = as_sizes("event_shape", event_shape)
    if len(shape) != 1:
        raise ValueError(f"`event_shape` must be [D]. Received: event_shape={shape}")
    blocks = maker(
        block, act, preact, seed, dtype, shape_within(context_shape, context_network),
        context_gates, coeff=coeff, orders=orders, certified=certified, dense_net=dense_net,
        power_iteration=power_iteration, log_det=log_det, solver=solver, adjoint=adjoint)
    steps = []
    for _ in range(nblocks):
        steps.append(blocks.dense(shape, dims))
        steps += [blocks.actnorm(shape)] if actnorm else []
    return embedded(Chain(steps[::-1]), context_shape, context_network)
