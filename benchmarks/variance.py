"""`python -m benchmarks.variance [--quick]`: which probes make log-determinants less noisy.

One batch, many draws of the probes, six terms: the standard deviation of an example's log_det, of
its mean over the batch and of that mean's gradient (root of the summed variance of all weights);
and the ratios to normal probes, each sd times the root of the products it took, see `products`.

Then which part of the variance of the loss's gradient the probes and the number of terms make, as
training draws them: all else comes from the rows of a batch, and no probe makes it less.
"""

import argparse
import math

import numpy as np
import sklearn.datasets
import tensorflow as tf

from benchmarks import ours
from benchmarks.noise import TERMS, estimator, noise, steps
from benchmarks.probes import (hadamard, hutch, normal, over_batch, over_blocks, same, signs,
                               signs_over_batch, sphere)
from benchmarks.workloads import WORKLOADS, Toy
from bijectors import InvertibleResidual, flows
from tfresflow import FlowModel
from tfresflow.functions.branch import functionalize
from tfresflow.training import optimizers
from train import data, flags

WAYS = {  # probes, their m, and what is left out: `first`, `mean` of `estimator`
    "normal": (normal, 1, 0.0, 0.0), "signs": (signs, 1, 0.0, 0.0),
    "signs, same for blocks": (same, 1, 0.0, 0.0), "sphere": (sphere, 1, 0.0, 0.0),
    "sphere, 2 orthogonal": (sphere, 2, 0.0, 0.0), "sphere, over batch": (over_batch, 1, 0.0, 0.0),
    "signs, over batch": (signs_over_batch, 1, 0.0, 0.0),
    "sphere, over blocks": (over_blocks, 1, 0.0, 0.0), "Hadamard, 4": (hadamard, 4, 0.0, 0.0),
    "Hutch++, 1 and 1": (hutch, 2, 0.0, 0.0), "signs, tr(J) exact": (signs, 1, 1.0, 0.0),
    "signs, tr(J~) exact": (signs, 1, 0.0, 1.0),
    "over batch, tr(J) exact": (signs_over_batch, 1, 1.0, 0.0)}


def products(flow, size, draw, m, first, mean):
    """Of a value and of a gradient; None if there is no closed form.

    In the plane J is known from two. `w^T J v` and its derivative count as three; a closed form as
    its multiplications do, its derivative twice that: `tr(W3 D2 W2 D1 W1 D0)` is a form in the
    slopes D1 and D2 if D0 is the same for all x, else one for each D0_i and offset in the kernel.
    """
    extra, branches = int(draw is hutch), [functionalize(g) for g in flow.branches().values()]
    if first or mean:
        begins = [all(w.shape.rank == 0 for w in next(g.each(own))[1]) for g, own in branches]
        kernels = [[w.shape for w in own if w.shape.rank > 1] for _, own in branches]
        if size == 2 or any(len(own) != 3 for own in kernels) or mean and not any(begins):
            return None
        pixels = [size // own[-1][-1] for own in kernels]
        paths = [math.prod(own[0][:-1]) if first and b else 1 for own, b in zip(kernels, begins)]
        closed = (sum(n * k * math.prod(own[1]) for n, k, own in zip(pixels, paths, kernels))
                  / sum(n * sum(map(math.prod, own)) for n, own in zip(pixels, kernels)))
        return m * TERMS + closed, m * (TERMS + 3) + 3 * closed
    return (2, 2 + 2 * m) if size == 2 else (m * TERMS + extra, m * (TERMS + 3) + extra)


def table(name, flow, x, draws, once=None):
    """Prints it, and returns `once`, for the same flow with other weights."""
    once = once or estimator(flow, tf.constant(x))
    shapes = [b.event_shape for b in steps(flow) if isinstance(b, InvertibleResidual)]
    size, base = math.prod(shapes[0]), None
    print(f"\n{name}, {draws} draws\n{'':<24}  products   log_det its mean gradient  ratios")
    for label, (draw, m, *left) in WAYS.items():
        m = min(m, size)
        cost = products(flow, size, draw, m, *left)
        if cost is None:
            continue
        sds = noise(once, shapes, len(x), draws, draw, m, *left)[0]
        scaled = sds * np.sqrt([cost[0], *cost])
        base = scaled if base is None else base
        print(f"{label:<24} {cost[0]:4.1f} {cost[1]:5.1f}", *(f"{sd:8.3f}" for sd in sds), " ",
              *(f"{ratio:5.2f}" for ratio in scaled / base), flush=True)
    return once


def share(model, batches, draws):
    """Prints the part of the gradient's variance that is there with one batch, too."""
    values = [v.value for v in model.trainable_variables]

    @tf.function(autograph=False)
    def gradient(x, seed):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model.compute_nll(x, seed))
        found = tape.gradient(loss, values, unconnected_gradients="zero")
        return tf.concat([tf.reshape(g, [-1]) for g in found], axis=0)

    def variance(draws):
        return np.var(np.array(draws, "float64"), axis=0, ddof=1).sum()

    batches = [next(batches) for _ in range(draws)]
    total = variance([gradient(x, tf.constant([0, i])) for i, x in enumerate(batches)])
    own = np.mean([variance([gradient(x, tf.constant([1, i])) for i in range(draws)])
                   for x in batches[:4]])
    print(f"probes and terms make {own / total:.2%} of the variance of the loss's gradient, "
          f"batches of {len(batches[0])}", flush=True)


def train(model, batches, count):
    """So many steps."""
    model.compile(optimizers.Adam(1e-3, beta_2=0.99, global_clipnorm=1.0))
    for _, x in zip(range(count), batches):
        model.train_on_batch(x)


def loaded(name, size):
    settings = flags.parse(["x", f"--data={name}", f"--batchsize={size}"])
    return data.load(settings, "train").as_numpy_iterator()


def tumours(size):
    """Eight columns of the measurements that scikit-learn ships."""
    rows = sklearn.datasets.load_breast_cancer().data[:, :8].astype("float32")
    rng = np.random.RandomState(0)
    while True:
        yield rows[rng.randint(len(rows), size=size)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="no images, and fewer draws")
    quick = parser.parse_args().quick
    for name, flow, batches in (
            ("moons in the plane", ours.build(Toy(nblocks=10)), loaded("moons", 200)),
            ("table of 8 columns", flows.tabular_flow(8, seed=0), tumours(200))):
        model, x = FlowModel(flow), next(batches)
        model.initialize(x)
        train(model, batches, 500)
        table(f"{name}, 500 steps", flow, x[:64], 16 if quick else 64)
        share(model, batches, 16 if quick else 48)
    if quick:
        return
    flow, batches = ours.build(WORKLOADS["image-M"]), loaded("mnist5k", 32)
    model, x = FlowModel(flow), next(batches)
    model.initialize(x)
    once = table("image-M, no step", flow, x[:8], 8)
    train(model, batches, 60)
    table("image-M, 60 steps", flow, x[:8], 8, once)
    share(model, batches, 12)


if __name__ == "__main__":
    main()
