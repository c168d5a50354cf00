"""`eval`: what the model is worth on the test part, and whether it is invertible."""

import math
import pathlib
import sys
import time

import numpy as np
import tensorflow as tf

from bijectors import norm_report
from tfresflow.losses import bits_per_dim
from train import data, flags, plots
from train.build import is_exact
from train.classes import classification
from train.data.source import SPLITS
from train.errors import blame_the_input
from train.files import fingerprint_of, write_json
from train.sampling.targets import constants
from train.sampling.weighing import rows_of, scores, weighted
from train.scoring import scorer
from train.solving import solving

__all__ = ["evaluate"]


def evaluate(model, settings):
    """Evaluates on the whole test part, prints a table and writes metrics.json.

    Args:
      model: as `checkpoints.loaded` gives it.
      settings: the flags.

    Returns:
      The metrics, a dictionary.
    """
    began = time.monotonic()
    found, rows = (_of_target if settings.task == "sampling" else _of_data)(model, settings)
    metrics = {"checkpoint": settings.checkpoint,
               "step": int(model.optimizer.iterations.numpy()), **found,
               **_norms(model, settings), "reconstruction_error": None}
    try:  # an inverse that does not converge takes nothing else with it
        metrics["reconstruction_error"] = _reconstruction_error(model, *rows())
    finally:
        metrics["evaluation_seconds"] = round(time.monotonic() - began, 1)
        write_json(metrics, pathlib.Path(settings.workdir) / "metrics.json")
        _print(metrics)
    return metrics


def _of_target(model, settings):
    """What is found by weighted samples, and a function that gives some of them."""
    samples = weighted(model, settings, settings.seed)
    return {**constants(settings), **scores(model, settings, samples)}, lambda: [samples.x]


def _of_data(model, settings):
    """What is found on the test part, and a function that gives rows of it."""
    with blame_the_input():
        source = data.describe(settings)
        _warn_of_other_files(settings)
    found = {"data": settings.data, "dataroot": settings.dataroot,
             **(classification(model, settings) if model.head is not None else {}),
             **(_density(model, settings, source) if model.trains_density else {})}

    def rows():
        batch = next(iter(data.load(settings, "test")))
        return batch if model.joins else [batch]

    return found, rows


def _density(model, settings, source):
    return {**_likelihood(model, settings, source), **_baseline(settings, source)}


def _warn_of_other_files(settings):
    """Of files that changed since training, the test part may have been trained on."""
    if settings.command == "eval":
        known = flags.load(settings.workdir).get(flags.FINGERPRINT)
        if known not in (None, fingerprint_of(settings)):
            print(f"warning: --dataroot={settings.dataroot} is not what the run was trained on. If "
                  "it holds some of the same examples, they may be among those of its test part",
                  file=sys.stderr)


def _likelihood(model, settings, source):
    """The mean negative log-likelihood, its standard errors over data and probes, its bounds."""
    nll, half = scorer(model, settings, source)(data.load(settings, "test"),
                                                data.steps(settings, "test"))
    exact, half = is_exact(settings, source), half.mean()  # of the mean
    names = {"nll_nats": (nll, half)}
    if model.scale_bits is not None:
        size = int(np.prod(source.event_shape))
        bits = bits_per_dim(nll, size, model.scale_bits)
        names["bits_per_dim"] = bits, half / (size * math.log(2))
    if source.scaler:
        names["nll_nats_original_units"] = nll + source.scaler.log_scale, half
    metrics = {"num_test_examples": nll.shape[1], "num_probe_draws": len(nll),
               "num_noise_draws": settings.eval_draws if model.flow.nbits else 1}
    for name, (values, half) in names.items():
        means = values.mean(axis=1)
        per_example = values.mean(axis=0)
        metrics[name] = float(means.mean())
        metrics[f"{name}_stderr_data"] = float(per_example.std(ddof=1) / np.sqrt(nll.shape[1]))
        metrics[f"{name}_stderr_probes"] = 0.0 if exact else _stderr(means)
        metrics[f"{name}_truncation"] = float(half) if np.isfinite(half) else None
    return metrics


def _stderr(means):
    """Standard error of the mean of several; of a single one it is not known."""
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else None


def _baseline(settings, source):
    """What the likelihood is to be compared with."""
    if source.entropy is not None:
        return {"entropy_nats": source.entropy}
    if source.kind != "image":
        return {}
    train, validation, test = (data.level_chunks(settings, s) for s in SPLITS)
    baseline, stderr = data.histogram_bits_per_dim(train, list(validation), test, settings.nbits)
    return {"histogram_bits_per_dim": baseline, "histogram_stderr": stderr}


def _reconstruction_error(model, *rows, most=64):
    """`max |inverse(forward(x)) - x|` over rows x, with contexts, past TFP's cache of inverses.

    Of a flow of levels, whose inverse rounds to them, without what makes pixels of them.
    """
    x, *beside = (t[:most] for t in rows)
    given = {"context": beside[0]} if model.is_conditional else {}
    flow = model.flow
    if flow.nbits:
        flow, dequantize = flow.bijectors
        x = dequantize.forward(x, seed=0)
    forward = tf.function(lambda x: flow.forward_and_log_det(x, seed=0, **given)[0],
                          autograph=False)
    inverse = tf.function(lambda z: flow.inverse_alone(z, **given), autograph=False)
    with solving():
        return float(tf.reduce_max(tf.abs(inverse(forward(x)) - x)))


def _norms(model, settings):
    """Norms and the verdict; the table, if there are any, goes to norms.txt and norms.png."""
    report = norm_report(model.flow)
    if report.layers:
        workdir = pathlib.Path(settings.workdir)
        (workdir / "norms.txt").write_text(f"{report}\n")
        plots.norms(report, workdir / "norms.png")
    return {"coeff": settings.coeff, "largest_norm": report.largest,
            "lipschitz_bound_of_block": report.blocks, "certified": report.certified,
            "invertible": report.verdict(), "layers": [row._asdict() for row in report.layers]}


def _print(metrics):
    rows = rows_of(metrics) if "target" in metrics else _rows(metrics)
    error = metrics["reconstruction_error"]
    rows.append(("reconstruction error", "not converged" if error is None else f"{error:.1e}"))
    if metrics["layers"]:
        rows.append(("largest operator norm", f"{metrics['largest_norm']:.4f} "
                                              f"(coeff {metrics['coeff']})"))
    of = ("weighted samples", "num_samples") if "target" in metrics else (
        "test examples", "num_test_examples")
    rows += [("invertible", metrics["invertible"]),
             (f"{of[0]}, step", f"{metrics[of[1]]}, {metrics['step']} ({metrics['checkpoint']})")]
    width = max(len(label) for label, _ in rows)
    print("\n".join(f"{label:<{width}}  {value}" for label, value in rows), flush=True)


def _rows(metrics):
    """Of the table, what is said of the test part."""
    rows = []
    if "accuracy" in metrics:
        rows.append(("test accuracy", f"{metrics['accuracy']:.4f} "
                                      f"+- {metrics['accuracy_stderr']:.4f} (data), calibration "
                                      f"error {metrics['calibration_error']:.4f}"))
    for name, label in (("bits_per_dim", "test bits/dim"), ("nll_nats", "test NLL, nats"),
                        ("nll_nats_original_units", "test NLL, nats, units of the file")):
        if name in metrics:
            data, probes, truncation = (metrics[f"{name}_{error}"] for error in (
                "stderr_data", "stderr_probes", "truncation"))
            errors = [f"+- {data:.4f} (data)", "(probes: unknown, one pass)" if probes is None else
                      f"+- {probes:.4f} (probes)"]
            if truncation is not None:
                errors.append(f"+- {truncation:.4f} (truncation, proven)")
            rows.append((label, " ".join([f"{metrics[name]:.4f}", *errors])))
    if "histogram_bits_per_dim" in metrics:
        rows.append(("per-pixel histogram, bits/dim", f"{metrics['histogram_bits_per_dim']:.4f} "
                                                      f"+- {metrics['histogram_stderr']:.4f}"))
    if "entropy_nats" in metrics:
        rows.append(("entropy of the density, nats", f"{metrics['entropy_nats']:.4f}"))
    return rows
