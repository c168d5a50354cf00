"""Figure 1: with larger Lipschitz constants the biased estimator no longer optimises the density.

A density in the plane, so that the true negative log-likelihood is known without an estimate.
The biased runs train with five terms of the series, as i-ResNets do; the unbiased ones with ten
and a geometric number more, twenty on average, as a short tail has a large variance.
"""

import numpy as np
import pandas as pd
import tensorflow as tf

from tfresflow.logdet.exact import jacobian
from train import data, flags
from train.checkpoints import loaded
from train.reproduce.figure import figure, mean_and_error, save_table
from train.reproduce.runs import run

__all__ = ["reproduce"]

_COEFFS = (0.5, 0.9, 0.99)
_SEEDS = (0, 1, 2)
_ESTIMATORS = {"biased, 5 terms": ("--n_power_series=5",),
               "unbiased": ("--n_dist=geometric", "--geom_p=0.05", "--n_exact_terms=10")}
_FLAGS = ("--data=checkerboard", "--act=swish", "--nblocks=8", "--dims=64", "--niters=1500",
          "--val_every=250", "--n_test=5000", "--val_batchsize=5000")
_TERMS = (1, 2, 3, 5, 8, 12, 20, 30)


def reproduce(folder, quick):
    """The figure, its csv and the verdict."""
    rows, logs, biases = [], {}, {}
    for coeff in _COEFFS[-1:] if quick else _COEFFS:
        for estimator, own_flags in _ESTIMATORS.items():
            for seed in _SEEDS[:2] if quick else _SEEDS:
                workdir = folder / f"{estimator.split(',')[0]}-{coeff}-{seed}"
                done = run(workdir, quick, "toy", *_FLAGS, *own_flags,
                           f"--coeff={coeff}", f"--seed={seed}")
                rows.append({"coeff": coeff, "estimator": estimator, "seed": seed,
                             "exact_nll": done.metrics["nll_nats"],
                             "stderr_data": done.metrics["nll_nats_stderr_data"]})
                logs.setdefault((coeff, estimator), []).append(done.log)
        biases[coeff] = _biases(workdir)
    table = pd.DataFrame(rows)
    bias = pd.DataFrame([{"coeff": c, "estimator": f"bias of {n} terms", "bias": b}
                         for c, own in biases.items() for n, b in own.items()])
    save_table(pd.concat([table, bias]), folder / "fig1.csv")
    _draw(folder / "fig1.png", table, logs, biases)
    return _verdict(table)


def _verdict(table):
    worst = table[table.coeff == 0.99]
    means = {e: mean_and_error(own.exact_nll) for e, own in worst.groupby("estimator")}
    (biased, e1), (unbiased, e2) = means["biased, 5 terms"], means["unbiased"]
    error = np.hypot(np.hypot(e1, e2), worst.stderr_data.mean() * np.sqrt(2 / len(_SEEDS)))
    holds = biased - unbiased > 3 * error
    return (f"{'confirmed' if holds else 'not confirmed'}: at coeff 0.99 the exact NLL is "
            f"{biased:.4f} biased, {unbiased:.4f} unbiased, a difference of "
            f"{(biased - unbiased) / error:.1f} standard errors (3 asked for)")


def _biases(workdir):
    """Mean error, in nats, of n terms with exact traces, on the test part of a run."""
    settings = flags.parse(["x", "eval", f"--workdir={workdir}"])
    with loaded(settings) as model:
        x = next(iter(data.load(settings, "test")))[:1000]
        exact = model.eval_flow.forward_and_log_det(x)[1]
        return {n: float(tf.reduce_mean(model.flow.with_log_det(
            _ExactTraces(n)).forward_and_log_det(x)[1] - exact)) for n in _TERMS}


class _ExactTraces:
    """`sum_{k <= n} (-1)^{k+1} / k tr(J^k)`, in place of a `logdet.LogDet`."""

    def __init__(self, n):
        self.n = n

    def __call__(self, g, x, seed=None):
        y, matrices = jacobian(g, x)
        power, total = matrices, tf.linalg.trace(matrices)
        for k in range(2, self.n + 1):
            power = power @ matrices
            total += (-1) ** (k + 1) / k * tf.linalg.trace(power)
        return y, total


def _draw(path, table, logs, biases):
    with figure(path, 1, 3, figsize=(10, 3)) as (courses, ends, bias):
        for i, estimator in enumerate(_ESTIMATORS):
            for log in logs[0.99, estimator]:
                courses.plot(log.step, log.val_nll, color=f"C{i}", label=estimator, alpha=0.8)
            own = table[table.estimator == estimator].groupby("coeff")
            means, errors = zip(*(mean_and_error(g.exact_nll) for _, g in own))
            ends.errorbar([c for c, _ in own], means, errors, marker="o", label=estimator)
        for i, (coeff, own) in enumerate(biases.items()):
            bias.plot(list(own), np.abs(list(own.values())), marker="o", label=f"coeff {coeff}",
                      color=f"C{i + 2}")
        handles = dict(zip(*courses.get_legend_handles_labels()[::-1]))
        courses.legend(handles.values(), handles.keys())
        courses.set(xlabel="step", ylabel="exact NLL, nats", title="coeff 0.99, three seeds")
        ends.set(xlabel="coeff of each layer", ylabel="exact test NLL, nats",
                 title="after training, mean and standard error")
        ends.legend()
        bias.set(xlabel="terms of the series", ylabel="|bias of log p|, nats", yscale="log",
                 title="unbiased model")
        bias.legend()
