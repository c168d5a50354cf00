"""The architecture of tables: vectors whose columns have units of their own."""

from bijectors.actnorm import ActNorm
from bijectors.chain import Chain
from bijectors.column_supports import ColumnSupports
from bijectors.flows.context import embedded, shape_within
from bijectors.flows.toy import toy_flow

__all__ = ["tabular_flow"]


def tabular_flow(event_shape, *, nblocks=10, dims=(128, 128), coeff=0.97, supports=None,
                 dtype=None, context_shape=None, context_network=None, **kwargs):
    """Rows of a table to latent vectors: an ActNorm standardises the columns, then a `toy_flow`.

    Args:
      event_shape: `[D]`, or D.
      nblocks, dims, coeff, dtype, context_shape, context_network: see `toy_flow`.
      supports: of columns that are bounded, `{0: "positive", 2: ("interval", 0, 1)}`, or a list
        with one entry for each column; see `ColumnSupports`. Samples lie inside, and the density is
        0 outside.
      **kwargs: other arguments of `toy_flow`.

    Returns:
      A `Chain` from `[N, D]` to `[N, D]`.

    Raises:
      ValueError: see `toy_flow` and `ColumnSupports`.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.flows import tabular_flow
      >>> flow = tabular_flow(2, nblocks=1, dims=8, supports={0: "positive"}, seed=0)
      >>> x = flow.inverse(tf.random.normal([100, 2]))
      >>> bool(tf.reduce_all(x[:, 0] > 0))
      True
    """
    shape = shape_within(context_shape, context_network)
    blocks = toy_flow(event_shape, nblocks=nblocks, dims=dims, coeff=coeff, dtype=dtype,
                      context_shape=shape, **kwargs)
    # However small the unit, a column starts with variance 1.
    steps = [blocks, ActNorm(event_shape, min_variance=0.0, dtype=dtype)]
    steps += [] if supports is None else [ColumnSupports(event_shape, supports)]
    return embedded(Chain(steps), context_shape, context_network)
