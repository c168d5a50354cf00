"""The members of a model of a density, flow and base: whether they are what they should be."""

import tensorflow as tf

from tfresflow.checks.rules import check, check_object, is_whole

__all__ = ["check_base", "check_choices", "check_flow"]


def check_flow(flow):
    """Raises `ValueError` unless `flow` is one."""
    check_object("flow", flow, "have `forward_and_log_det` and `inverse_alone` (put bijectors of "
                 "TFP into a bijectors.Chain), and come before `base`",
                 "forward_and_log_det", "inverse_alone")
    check(hasattr(flow, "layers"), "flow", "have `layers`, the Keras layers of its weights", flow)


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


def check_choices(nbits, eval_log_det, autodiff):
    """Raises `ValueError` unless each of these is None or what it should be."""
    check(nbits is None or is_whole(nbits) and 1 <= nbits <= 16, "nbits", "be in 1..16, or None",
          nbits)
    if eval_log_det is not None:
        check_object("eval_log_det", eval_log_det, "be an estimator, as `LogDet(...)` or "
                     "`Exact()` of tfresflow.logdet", "__call__")
    if autodiff is not None:
        check_object("autodiff", autodiff, "be `Recomputed()`, `Stored()` or `Released()` of "
                     "tfresflow.autodiff", "__call__")
