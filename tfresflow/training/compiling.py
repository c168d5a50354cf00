"""What Keras's `compile` and `fit` offer and a model of a density does not take."""

import keras

from tfresflow.saving.adopted import Adopted

__all__ = ["check_compile", "less_is_better"]

_NOT_TAKEN = ("loss", "loss_weights", "metrics", "weighted_metrics")


def check_compile(model, arguments):
    """Raises `ValueError` for an argument of `compile` that would be ignored.

    Args:
      model: a subclass with a `train_step` of its own takes Keras's losses and metrics.
      arguments: of `compile`, by name.
    """
    own = type(model).train_step is not keras.Model.train_step
    for name in _NOT_TAKEN:
        if arguments.get(name) is not None and not own:
            raise ValueError(f"`{name}` must be None, or `loss` a `ReverseKL` or `ForwardKL` of "
                             "tfresflow.losses: else the loss is the negative log-likelihood, and "
                             f"`nll` and `bpd` are reported. Received: {name}={arguments[name]}")
    if type(model).compute_loss is not keras.Model.compute_loss and not own:
        raise ValueError("`compute_loss` must not be overridden, as nothing calls it: "
                         "override `example_losses(x, seed) -> [N]`, or `train_step`. "
                         f"Received: {type(model).__name__}.compute_loss")
    steps = arguments.get("steps_per_execution", 1)
    if not isinstance(steps, int) or steps < 1:
        raise ValueError("`steps_per_execution` must be at least 1, a whole number. "
                         f"Received: steps_per_execution={steps}")
    optimizer = arguments.get("optimizer")
    if hasattr(optimizer, "inner_optimizer") or hasattr(optimizer, "optimizers"):
        raise ValueError("`optimizer` must be one optimizer, in no other one. "
                         f"Received: optimizer={type(optimizer).__name__}")
    if getattr(optimizer, "loss_scale_factor", None) is not None:
        raise ValueError("`loss_scale_factor` of the optimizer must be None: the loss is not "
                         f"scaled. Received: loss_scale_factor={optimizer.loss_scale_factor}")
    held = any(isinstance(layer, Adopted) for layer in model._flatten_layers())
    if getattr(optimizer, "use_ema", False) and held:
        raise ValueError("`use_ema` must be False where variables of TensorFlow Probability are "
                         "trained: their averages cannot be read. Received: use_ema=True")


def less_is_better(callbacks, names):
    """Tells callbacks that cannot know it that less is better of the scores of these names.

    Raises:
      ValueError: for `SwapEMAWeights`, as averages are scored without it.
    """
    callbacks = getattr(callbacks, "callbacks", callbacks)
    for callback in callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]:
        if isinstance(callback, keras.callbacks.SwapEMAWeights):
            raise ValueError("`callbacks` must not have SwapEMAWeights: with use_ema=True averages "
                             f"are scored and kept without it. Received: callbacks={callback}")
        monitor = str(getattr(callback, "monitor", "")).removeprefix("val_")
        if monitor in names and getattr(callback, "mode", None) == "auto":
            callback.mode = "min"
