"""Path gradients beside the standard ones (Vaitl et al. 2024): time, noise, what is learned.

A step's time is that of a gradient of `losses.ReverseKL` and its norms, in turns with the others of
the same flow. Equal minutes are of training alone: what is traced is traced before.
"""

import time

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bijectors import Coupling, Inverted, flows
from tfresflow import logdet, losses, targets
from tfresflow.functions import upkeep
from tfresflow.functions.steps import Rows, bind
from train import flags
from train.build import build_model
from train.reproduce.figure import figure, save_table, told
from train.reproduce.kept import kept
from train.reproduce.swept import medians, trainable
from train.sampling.targets import build_loss
from train.sampling.weighing import scores, weighted

__all__ = ["reproduce"]

_GRADIENTS = {"path": losses.Path(), "drop-in": losses.DropIn(), "standard": losses.Standard()}
_SAMPLERS = ("residual, evaluated", "residual, solved", "couplings")
_SHAPES = ((2, 4), (8, 4), (8, 16), (32, 4), (64, 4))  # numbers of a sample, blocks
_IMAGES = 64  # so many numbers are an image of 8 x 8
_BATCH, _ROUNDS, _SEEDS = 256, 15, (0, 1, 2)
_STEPS, _DRAWS = (0, 60, 125, 250, 500), 40  # at which noise is measured, and of how many
_BLOCKS = 4  # of flows of the mixture
_TARGETS = {"gmm 6": ("gmm",), "many-well 6": ("many_well",),
            "many-well 32": ("many_well", "--dimensions=32"), "phi^4 8x8": ("phi4",),
            "U(1) 8x8": ("u1",)}
_MINUTES, _SAMPLES = 0.3, 2000
_FEW, _EPOCHS, _EVERY = 200, 120, 10  # samples, and how often they are gone over


def reproduce(folder, quick):
    """The figure, its csv and the verdict: which of the paper's claims hold?"""
    rows = []
    for sampler in _SAMPLERS:
        for size, blocks in _SHAPES[1:2] if quick else _SHAPES:
            rows += kept(folder, _times)(sampler, size, blocks, 1 if quick else _ROUNDS)
            print(rows[-3:], flush=True)
    for seed in _SEEDS[:1] if quick else _SEEDS:
        rows += kept(folder, _noise)(seed, *((0, 2), 1) if quick else (_STEPS, _BLOCKS))
        rows += kept(folder, _few)(seed, *(2, 1, 1) if quick else (_EPOCHS, _EVERY, _BLOCKS))
    for target, kl in [("gmm 6", "reverse")] if quick else _divergences():
        for gradient in ("path", "standard"):
            rows += [kept(folder, _trained)(target, kl, gradient, *(0.0, "--nblocks=1") if quick
                                            else (_MINUTES,))]
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    save_table(table, folder / "paths.csv")
    parts = {measure: own.dropna(axis=1, how="all") for measure, own in table.groupby("measure")}
    _draw(folder / "paths.png", **parts)
    return _verdict(**parts)


def _divergences():
    """Forward ones of targets that can be sampled."""
    return [(name, kl) for name in _TARGETS for kl in ("reverse", "forward")
            if kl == "reverse" or name != "phi^4 8x8"]


def _gradient(flow, target, gradient):
    """A traced function of latents: the losses, and the gradient of their mean."""
    base, loss = losses.StandardNormal(flow.event_shape), losses.ReverseKL(target, gradient)
    variables = trainable(flow)

    @tf.function(autograph=False)
    def found(x, seed=(0, 0)):
        n = x.shape[0]
        with upkeep.kept():
            with tf.GradientTape() as tape:
                bound = bind(flow, tf.convert_to_tensor(seed), n, x.dtype)
            sampled = loss.sampled(bound.steps, x, Rows(tf.range(n)), tf.fill([n], 1 / n), base,
                                   _end)
        own = [d for step in sampled.dweights for d in step]
        return sampled.losses, tape.gradient(bound.weights, variables, own,
                                             unconnected_gradients="zero")

    return found


def _end(log_prob, y):
    with tf.GradientTape() as tape:
        tape.watch(y)
        value = log_prob(y)
    return value, tape.gradient(value, y), []


def _times(sampler, size, blocks, rounds):
    """Rows of a gradient each: seconds, and these by those of the standard one."""
    flow = _flow(sampler, size, blocks)
    target = targets.Phi4(8, -4.0, 6.008) if size == _IMAGES else targets.GaussianMixture(size)
    x = tf.random.stateless_normal([_BATCH, *flow.event_shape], [0, 0])
    calls = {}
    for name, gradient in _GRADIENTS.items():
        call = _gradient(flow, target, gradient).get_concrete_function(x)
        calls[name] = lambda call=call: call(x)
    seconds = medians(calls, rounds)
    return [{"measure": "time", "sampler": sampler, "size": size, "blocks": blocks,
             "gradient": name, "seconds": own, "to_standard": own / seconds["standard"],
             "to_drop_in": own / seconds["drop-in"]} for name, own in seconds.items()]


def _flow(sampler, size, blocks):
    """Of small vectors with exact log-determinants; of images with the default estimator."""
    if size == _IMAGES:
        flow = (flows.phi4_couplings(8, nblocks=blocks, seed=0) if sampler == "couplings" else
                flows.phi4_flow(8, nblocks=blocks, actnorm=False, seed=0))
    elif sampler == "couplings":
        flow = flows.toy_flow([size], nblocks=blocks, dims=(64, 64), actnorm=False, seed=0,
                              block=Coupling)
    else:
        flow = flows.toy_flow([size], nblocks=blocks, dims=(64, 64), actnorm=False, seed=0,
                              log_det=logdet.Exact() if size <= 8 else None)
    return Inverted(flow) if sampler == "residual, evaluated" else flow


def _noise(seed, steps, blocks):
    """Rows of a gradient each, at some steps of training by path gradients: its variance.

    Summed over weights, of the mean over a batch.
    """
    model, target = _mixture(seed, blocks, "evaluated"), targets.GaussianMixture(6)
    model.compile(_optimizer(), loss=losses.ReverseKL(target))
    calls = {name: _gradient(model.flow, target, _GRADIENTS[name]) for name in ("path", "standard")}
    rows = []
    for before, step in zip((0, *steps), steps):
        if step > before:
            model.fit(batch_size=_BATCH, steps_per_epoch=step - before, verbose=0)
        for name, call in calls.items():
            draws = [call(model.base.sample(_BATCH, seed=[seed, i])) for i in range(_DRAWS)]
            flat = [np.concatenate([np.ravel(d) for d in own]) for _, own in draws]
            rows.append({"measure": "noise", "seed": seed, "step": step, "gradient": name,
                         "variance": np.var(flat, axis=0, ddof=1).sum(),
                         "loss": np.mean([value for value, _ in draws])})
    return rows


def _few(seed, epochs, every, blocks):
    """Rows: divergences of a mixture from what a few of its samples have taught, epoch by epoch."""
    target, rows = targets.GaussianMixture(6), []
    few, fresh = (target.sample(n, seed=[seed, n]) for n in (_FEW, 10 * _FEW))
    for name in ("path", "standard"):
        model = _mixture(seed, blocks, "solved")
        model.compile(_optimizer(), loss=losses.ForwardKL(target, _GRADIENTS[name]))
        for epoch in range(every, epochs + 1, every):
            model.fit(few, batch_size=_FEW // 2, epochs=every, verbose=0)
            seen, new = (model.evaluate(x, batch_size=_FEW, verbose=0, return_dict=True)["loss"]
                         for x in (few, fresh))
            rows.append({"measure": "few", "seed": seed, "gradient": name, "epoch": epoch,
                         "loss": seen, "test_loss": new})
    return rows


def _mixture(seed, blocks, sampler):
    return build_model(flags.parse(["x", "--flagfile=configs/gmm.cfg", f"--nblocks={blocks}",
                                    "--exact_training", f"--seed={seed}", f"--sampler={sampler}"]))


def _optimizer():
    return keras.optimizers.Adam(2e-3, global_clipnorm=1.0)


def _trained(target, kl, gradient, minutes, *more):
    """A row: what `eval` says of a flow that was trained for so long."""
    name, *own = _TARGETS[target]
    settings = flags.parse([
        "x", f"--flagfile=configs/{name}.cfg", *own, *more, f"--kl={kl}",
        f"--kl_gradient={gradient}", f"--n_importance={_SAMPLES}",
        f"--sampler={'evaluated' if kl == 'reverse' else 'solved'}"])
    model, limit = build_model(settings), _Minutes(minutes)
    model.compile(_optimizer(), loss=build_loss(settings))
    model.fit(batch_size=settings.batchsize, steps_per_epoch=1, verbose=0)  # is traced
    model.fit(batch_size=settings.batchsize, steps_per_epoch=10 ** 6, verbose=0, callbacks=[limit])
    found = scores(model, settings, weighted(model, settings, seed=0))
    names = ("ess", "forward_ess", "log_z", "log_z_stderr", "log_z_exact", "acceptance", "loss")
    return {"measure": "trained", "target": target, "kl": kl, "gradient": gradient,
            "minutes": minutes, "steps": int(model.optimizer.iterations.numpy()),
            **{name: found[name] for name in names}}


class _Minutes(keras.callbacks.Callback):
    """Ends training after so long."""

    def __init__(self, minutes):
        super().__init__()
        self._minutes, self._began = minutes, None

    def on_train_begin(self, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._began >= 60 * self._minutes:
            self.model.stop_training = True


def _verdict(time, noise, few, trained):
    """The claims that hold, and those that do not."""
    return told({**_of_time(time), **_of_noise(noise), **_of_few(few), **_of_trained(trained)})


def _of_time(time):
    path = time[time.gradient == "path"]
    claims = {}
    for sampler, own in path[path["size"] == 8].groupby("sampler", sort=False):
        for beside, most in (("standard", 1.5), ("drop_in", 0.77)):
            worst = own[f"to_{beside}"].max()
            claims[f"{sampler}, 8 numbers: path / {beside} time at most {worst:.2f} ({most})"] = (
                worst <= most)
    faster = 1 / path.to_drop_in
    claims[f"path is {faster.min():.2f} to {faster.max():.2f} times faster than drop-in (1.5 to 8)"
           ] = faster.min() >= 1.5
    claims[f"path takes {path.to_standard.min():.2f} to {path.to_standard.max():.2f} times what "
           f"standard does (at most 2.3)"] = path.to_standard.max() <= 2.3
    return claims


def _of_noise(noise):
    wide = noise.pivot(index=["seed", "step"], columns="gradient", values="variance")
    ratio = (wide.path / wide.standard).groupby("step")
    last = ratio.max().iloc[-1]
    return {f"variance of path / standard {ratio.mean().iloc[0]:.2g} at first, at most {last:.2g} "
            "at the end": last < 1}


def _of_few(few):
    lost = few.groupby(["gradient", "seed"]).test_loss.agg(lambda own: own.iloc[-1] - own.min())
    path, likelihood = lost["path"].max(), lost["standard"].min()
    return {f"{_FEW} samples: the divergence rises from its least by at least {likelihood:.2f} "
            f"nats by likelihood, by at most {path:.2f} by path": path < likelihood / 2}


def _of_trained(trained):
    claims = {}
    for kl, own in trained.groupby("kl", sort=False):
        wide = own.pivot(index="target", columns="gradient", values="ess")
        better = (wide.path >= wide.standard).sum()
        claims[f"{kl} divergence: effective size by path at least that of standard for {better} of "
               f"{len(wide)} targets"] = bool(better == len(wide))
    return claims


def _draw(path, time, noise, few, trained):
    with figure(path, 2, 2, figsize=(11, 8)) as axes:
        chosen = time[time.blocks == time.blocks.min()]
        for (sampler, name), own in chosen.groupby(["sampler", "gradient"], sort=False):
            axes[0, 0].plot(own["size"], own.to_standard, marker="o", label=f"{sampler}: {name}",
                            color=f"C{_SAMPLERS.index(sampler)}",
                            ls={"path": "-", "drop-in": ":", "standard": "--"}[name])
        axes[0, 0].set(xlabel="numbers of a sample", ylabel="time / standard", xscale="log",
                       ylim=(0, None))
        axes[0, 0].legend(fontsize=6)
        _draw_lines(axes[0, 1], noise, "step", "variance", "variance of the gradient")
        axes[0, 1].set(yscale="log")
        _draw_lines(axes[1, 0], few, "epoch", "test_loss", f"KL(p || q), {_FEW} samples")
        _draw_sizes(axes[1, 1], trained)


def _draw_lines(ax, table, along, column, label):
    """A line a seed."""
    for i, (name, own) in enumerate(table.groupby("gradient", sort=False)):
        for j, (_, line) in enumerate(own.groupby("seed")):
            ax.plot(line[along], line[column], color=f"C{i}", label=name if j == 0 else None)
    ax.set(xlabel=along, ylabel=label)
    ax.legend()


def _draw_sizes(ax, trained):
    """Effective sizes, side by side."""
    wide = trained.pivot(index=["target", "kl"], columns="gradient", values="ess")
    place = np.arange(len(wide))
    for i, name in enumerate(wide):
        ax.bar(place + 0.4 * i - 0.2, wide[name], 0.4, label=name)
    ax.set(xticks=place, ylabel=f"effective size after {trained.minutes.max():g} minutes")
    ax.set_xticklabels([f"{target}, {kl}" for target, kl in wide.index], rotation=45, ha="right",
                       fontsize=7)
    ax.legend()
