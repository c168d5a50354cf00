"""The image architecture of the Residual Flows paper."""

from bijectors.chain import Chain
from bijectors.factor_out import FactorOut
from bijectors.flatten import Flatten
from bijectors.flows.context import embedded, shape_within
from bijectors.flows.couplings import maker
from bijectors.logit import Logit
from bijectors.residual import InvertibleResidual
from bijectors.squeeze import Squeeze
from tfresflow import layers
from tfresflow.checks.sizes import as_size, as_sizes

__all__ = ["image_flow"]


def image_flow(event_shape, *, nblocks=(16, 16, 16), idim=512, kernels=(3, 1, 3), coeff=0.98,
               act=layers.LipSwish, preact=True, first_resblock=True, squeeze_first=False,
               factor_out=False, fc_end=True, n_fc_blocks=4, fc_idim=128, actnorm=True,
               fc_actnorm=False, logit_alpha=0.05, orders=2, certified=True, dense_net=None,
               channels_first=False, power_iteration=None, log_det=None, solver=None, adjoint=None,
               seed=None, dtype=None, block=InvertibleResidual, context_shape=None,
               context_network=None, context_gates=False):
    """Images in [0, 1] to latent vectors: scales of convolutional residual blocks.

    Logit, then for each scale its blocks, each followed by an ActNorm; 2x2 squeezes between the
    scales; fully connected blocks at the end. Lip(g) <= coeff^3 for three kernels.

    The support is a little wider than [0, 1]: samples may be outside of it by up to
    `logit_alpha / (1 - 2 logit_alpha)`, from -0.056 to 1.056 for 0.05. Clip them for pictures.

    Args:
      event_shape: `[H, W, C]`; H and W divisible by 2 for each squeeze.
      nblocks: residual blocks of each scale; a single number is that of a single scale.
      idim: hidden channels of the convolutions.
      kernels: sizes of the convolutions of a block.
      coeff: bound of each layer's operator norm, in (0, 1), see `layers.InducedNormDense`.
      act: activation: a class of `tfresflow.layers`, or a name; see `layers.as_activation`.
      preact: each branch begins with an activation.
      first_resblock: the very first branch begins without an activation, after an ActNorm.
      squeeze_first: squeeze the image before the first scale.
      factor_out: after each scale but the last, half of the channels go to the latent as they are.
      fc_end: end the last scale with `n_fc_blocks` fully connected blocks of width `fc_idim`.
      actnorm: after each block, an ActNorm with one scale for each channel.
      fc_actnorm: after each block, an ActNorm with one scale for each entry of the image.
      logit_alpha: alpha of the logit; None: no logit, for data that is not in [0, 1].
      orders: of the norms of a branch, one for each of its linear layers, or a single one for all:
        layer l goes from `orders[l]` to `orders[l + 1]`, the last one back to `orders[0]`; numbers
        in [1, inf] or `layers.LearnedOrder`s.
      certified: keep proven bounds of the norms below 1, too; see `layers.InducedNormDense`.
      dense_net: `DenseNet(depth, growth)` for i-DenseNet branches, which ignore `idim` and
        `kernels`; None: plain ones.
      channels_first: squeezes and the latent order their entries as the PyTorch reference does, see
        `Squeeze`, `FactorOut` and `Flatten`: for its checkpoints. The model is the same one, up to
        the order of channels, unless `factor_out` says which of them leave. Couplings take the
        halves that they take there: a checkerboard in the first scale, if there is a logit.
      power_iteration: `layers.PowerIteration` of the layers.
      log_det, solver, adjoint: of every block; see `InvertibleResidual`.
      seed: integer for the initial weights; None: different ones each time.
      dtype: of the weights.
      block: class of the blocks, or several, see `toy_flow`.
      context_shape: of a conditional flow: shape of one context, `[K]` or K; `[]` for labels, with
        a network; None: no context.
      context_network: a Keras layer or model of the context, see `Embedded`; without one the
        context enters the blocks as it is.
      context_gates: see `layers.FiLM`.

    Returns:
      A `Chain` from `[N, H, W, C]` to `[N, H W C]`.

    Raises:
      ValueError: if the image cannot be squeezed as often as `nblocks` asks for.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import image_flow
      >>> flow = image_flow([4, 4, 1], nblocks=1, idim=4, squeeze_first=True, fc_end=False)
      >>> z, log_det = flow.forward_and_log_det(tf.fill([2, 4, 4, 1], 0.5), seed=0)
      >>> z.shape, log_det.shape
      (TensorShape([2, 16]), TensorShape([2]))
      >>> [b.name for b in reversed(flow.bijectors)]      # in the order in which x meets them
      ['logit', 'squeeze', 'actnorm', 'conv0', 'actnorm', 'flatten']

    References: Chen et al., Residual Flows (2019), and the code published with it.
    """
    event_shape, nblocks = as_sizes("event_shape", event_shape), as_sizes("nblocks", nblocks)
    kernels, idim = as_sizes("kernels", kernels), as_size("idim", idim)
    fc_idim, n_fc_blocks = as_size("fc_idim", fc_idim), as_size("n_fc_blocks", n_fc_blocks, 0)
    _validate(event_shape, nblocks, kernels, squeeze_first)
    blocks = maker(
        block, act, preact, seed, dtype, shape_within(context_shape, context_network),
        context_gates, coeff=coeff, orders=orders, certified=certified, dense_net=dense_net,
        power_iteration=power_iteration, log_det=log_det, solver=solver, adjoint=adjoint)

    def norms(shape):
        return ([blocks.actnorm(shape)] if actnorm else []) + (
            [blocks.actnorm(shape, per_element=True)] if fc_actnorm else [])

    def scale(shape, i):
        """Scale i and all after it, in the order in which data meets them."""
        if channels_first:
            blocks.begin_scale(masked=i == 0 and logit_alpha is not None)
        steps = norms(shape) if first_resblock and i == 0 else []
        for j in range(nblocks[i]):
            bare = first_resblock and i == 0 and j == 0
            steps += [blocks.conv(shape, idim, kernels, preact=preact and not bare), *norms(shape)]
        if i == len(nblocks) - 1:
            return steps + _end(shape)
        steps.append(Squeeze(shape, channels_first=channels_first))
        shape = steps[-1].latent_shape(shape)
        if not factor_out:
            return steps + scale(shape, i + 1)
        half = (*shape[:2], shape[2] // 2)
        return steps + [FactorOut(_chain(scale(half, i + 1)), shape, channels_first)]

    def _end(shape):
        flatten = Flatten(shape, channels_first)
        [size] = flatten.latent_shape(shape)
        steps = [flatten]
        for _ in range(n_fc_blocks if fc_end else 0):
            steps.append(blocks.dense((size,), [fc_idim] * (len(kernels) - 1)))
            steps += [blocks.actnorm((size,))] if actnorm or fc_actnorm else []
        return steps

    start = [] if logit_alpha is None else [Logit(event_shape, logit_alpha)]
    shape = event_shape
    if squeeze_first:
        start.append(Squeeze(shape, channels_first=channels_first))
        shape = start[-1].latent_shape(shape)
    return embedded(_chain(start + scale(shape, 0)), context_shape, context_network)


def _chain(steps):
    return Chain(steps[::-1])


def _validate(event_shape, nblocks, kernels, squeeze_first):
    if len(event_shape) != 3:
        raise ValueError("`event_shape` must be [H, W, C]. "
                         f"Received: event_shape={event_shape}")
    if len(kernels) < 2:
        raise ValueError("`kernels` must be at least two sizes. "
                         f"Received: kernels={kernels}")
    factor = 2 ** (len(nblocks) - 1 + squeeze_first)
    if any(side % factor for side in event_shape[:2]):
        raise ValueError(f"`event_shape` must have height and width divisible by {factor} for "
                         f"{len(nblocks)} scales, squeeze_first={squeeze_first}. "
                         f"Received: event_shape={event_shape}")
