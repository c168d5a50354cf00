"""The members of a model of a density, flow and base: whether they are what they should be."""

import tensorflow as tf

from tfresflow.checks.rules import check, check_object, is_whole

__all__ = ["check_base", "check_flow", "check_nbits", "latent_of"]


def check_flow(flow):
    """Raises `ValueError` unless `flow` is one."""
    check_object("flow", flow, "have `forward_and_log_det` and `inverse_alone`: put bijectors of "
                 "TFP into a bijectors.Chain, of a model take `model.flow`",
                 "forward_and_log_det", "inverse_alone")
    check(hasattr(flow, "layers"), "flow", "have `layers`, the Keras layers of its weights", flow)


def latent_of(flow, base):
    """Shape of one latent; None if the flow does not say it and a base is given.

    Raises:
      ValueError: if neither tells what the base is to be.
    """
    if hasattr(flow, "latent_shape") and hasattr(flow, "event_shape"):
        return flow.latent_shape(flow.event_shape)
    check(base is not None, "base", "be given where `flow` has no `event_shape` and "
          "`latent_shape`", base)
    return None


def check_base(base, latent, dtype):
    """Raises `ValueError` unless `base` is a distribution of one latent.

    Args:
      base: anything with `log_prob` and `sample`.
      latent: shape of one latent, None if it is not known.
      dtype: of the flow's weights, None if it has none.
    """
    check_object("base", base, "be a distribution, with `log_prob` and `sample`, and come after "
                 "`flow`", "log_prob", "sample")
    event, batch = (getattr(base, f"{kind}_shape", None) for kind in ("event", "batch"))
    shapes = f"event_shape={event}, batch_shape={batch}"
    if latent is not None and event is not None:
        fits = tf.TensorShape(event).is_compatible_with(latent) and tf.TensorShape(
            [] if batch is None else batch).is_compatible_with([])
        if not fits:
            raise ValueError(f"`base` must have the event_shape {tuple(latent)} of a latent and no "
                             f"batch_shape (tfd.Sample or tfd.Independent). Received: {shapes}")
    own = getattr(base, "dtype", None)
    if dtype is not None and isinstance(own, tf.DType) and own != tf.as_dtype(dtype):
        raise ValueError("`base` must have the dtype of the flow's weights, "
                         f"{tf.as_dtype(dtype).name}. Received: dtype={own.name}")


def check_nbits(nbits):
    """Raises `ValueError` unless `nbits` is None or a number of bits."""
    check(nbits is None or is_whole(nbits) and 1 <= nbits <= 16, "nbits", "be in 1..16, or None",
          nbits)
