"""Weighted samples of a run, and what they say: log Z, how many of them count, a Markov chain."""

import weakref

import numpy as np
import tensorflow as tf

from tfresflow import importance
from tfresflow.batches import seeds
from tfresflow.training.distributed import NonFinite
from train.build import describe, is_exact
from train.sampling.targets import build_target
from train.solving import solving
from train.status import saying

__all__ = ["rows_of", "scores", "weighted"]

_STREAM = 8_000_000  # seeds of the target's samples
_DRAWN: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # of each model, for what seed


def weighted(model, settings, seed):
    """`importance.Weighted`, as many as --n_importance says; drawn once for the same seed.

    Args:
      model: as `checkpoints.loaded` gives it: its weights do not change any more.
      settings: the flags.
      seed: integer.

    Raises:
      NotConverged: an inverse.
      NonFinite: a density is not a number.
    """
    known, samples = _DRAWN.get(model, (None, None))
    if known == (seed, settings.n_importance):
        return samples
    with saying(f"drawing {settings.n_importance} weighted samples"), solving():
        try:
            samples = model.sample_importance(settings.n_importance, seed=seed,
                                              batch_size=settings.val_batchsize)
        except ValueError as error:
            raise NonFinite(f"the densities of samples are not finite ({error})") from error
    _DRAWN[model] = (seed, settings.n_importance), samples
    return samples


def scores(model, settings, samples):
    """What metrics.json says of weighted samples, a dictionary; nats.

    `loss` is the mean of `log q - log p`, an upper bound of -log Z. What begins with `forward_` is
    of exact samples of the target, where there are some: it sees modes that the flow has missed.
    """
    target, count = build_target(settings), len(samples.x)
    (log_z, stderr), exact = samples.log_z(settings.seed), target.log_z
    chain = samples.metropolis(settings.seed)
    found = {"num_samples": count, "exact_densities": is_exact(settings, describe(settings)),
             "loss": float(-samples.log_weights.mean()),
             "loss_stderr": float(samples.log_weights.std(ddof=1) / np.sqrt(count)),
             "log_z": log_z, "log_z_stderr": stderr, "log_z_exact": exact,
             "log_z_error_in_stderrs": (
                 None if exact is None or not stderr else (log_z - exact) / stderr),
             "ess": samples.effective_size, "pareto_k": samples.pareto_k,
             "acceptance": chain.acceptance, "longest_wait": chain.longest_wait,
             "forward_loss": None, "forward_ess": None}
    if hasattr(target, "sample"):
        found.update(_forward(model, settings, target))
    return found


def _forward(model, settings, target):
    """Of exact samples of the target: the mean of `log p - log q`, `1 / (mean w mean 1/w)`."""
    size, dtype = settings.val_batchsize, model.variable_dtype
    seed = seeds.fold_in(seeds.as_seed(settings.seed), _STREAM)

    @tf.function(autograph=False)
    def weigh(own):
        x = target.sample(size, own, dtype=dtype)
        return target.log_prob(x) - model.log_prob(x, own)

    with saying(f"weighing {settings.n_importance} samples of the target"), solving():
        found = np.concatenate([weigh(seeds.fold_in(seed, i)) for i in range(
            -(-settings.n_importance // size))])[:settings.n_importance]
    log_weights = found.astype(np.float64)
    mean, of_inverse = (importance.log_mean_weight(sign * log_weights)[0] for sign in (1, -1))
    return {"forward_loss": float(log_weights.mean()),
            "forward_ess": float(np.exp(-mean - of_inverse))}


def rows_of(metrics):
    """The lines of a table, `(label, value)`."""
    log_z = f"{metrics['log_z']:.4f} +- {metrics['log_z_stderr']:.4f}"
    if metrics["log_z_exact"] is not None:
        log_z += f", exact {metrics['log_z_exact']:.4f}"
        away = metrics["log_z_error_in_stderrs"]
        log_z += "" if away is None else f" ({abs(away):.1f} of these errors away)"
    rows = [("log Z, nats", log_z),
            ("loss, nats", f"{metrics['loss']:.4f} +- {metrics['loss_stderr']:.4f}"),
            ("effective sample size", f"{metrics['ess']:.4f}"),
            ("Metropolis chain", f"acceptance {metrics['acceptance']:.4f}, longest wait "
                                 f"{metrics['longest_wait']}"),
            ("Pareto k", f"{metrics['pareto_k']:.3f}" + (
                ": weights not to be relied on" if metrics["pareto_k"] > 0.7 else ""))]
    if metrics["forward_ess"] is not None:
        rows.insert(3, ("the same of the target's samples", f"{metrics['forward_ess']:.4f}"))
    return rows
