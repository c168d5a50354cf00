"""`python -m benchmarks.implicit`: what the gradient of a sample costs, implicit against unrolled.

A block of convolutions near norm one, 64 examples, float32; both ways to the same true residual.
Time and peak memory (TensorFlow's allocator) of the gradient of a loss on `flow.inverse(z)` by z
and all weights; and evaluations of g, by solver.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from bijectors import InvertibleResidual
from tfresflow import layers, solvers
from tfresflow.functions.branch import functionalize
from train.reproduce.peak import peak

_SHAPE, _BATCH, _RTOL, _ROUNDS = (16, 16, 8), 64, 1e-6, 7


def main():
    """Prints the tables."""
    g, z = near_norm_one(), tf.random.stateless_normal([_BATCH, *_SHAPE], [0, 0])
    picard, *others = (solvers.Picard, solvers.Anderson, solvers.Broyden)
    counts = {}
    for kind in (picard, *others):
        solution = InvertibleResidual(g, _SHAPE, solver=kind(rtol=_RTOL, atol=0.0)).solve(z)
        counts[kind] = int(tf.reduce_max(solution.num_steps))
        print(f"{kind.__name__:<10} {counts[kind]:4d} evaluations of g, "
              f"{counts[kind] / counts[picard]:.2f} of Picard's")
    ways = {"unrolled": lambda z: unrolled(g, z, counts[picard])}
    for name, solver, adjoint in (
            ("implicit", solvers.Anderson, solvers.BiCGSTAB),
            ("Picard, Neumann", solvers.Picard, solvers.Neumann)):
        ways[name] = InvertibleResidual(g, _SHAPE, solver=solver(rtol=_RTOL, atol=0.0),
                                        adjoint=adjoint(rtol=_RTOL, atol=0.0)).inverse
    steps = {name: gradient(way, z, g) for name, way in ways.items()}
    want = [d.numpy() for d in steps["unrolled"]()]
    times: dict[str, list] = {name: [] for name in steps}
    for _ in range(_ROUNDS):  # in turns, as the machine has other work
        for name, step in steps.items():
            began = time.perf_counter()
            [d.numpy() for d in step()]
            times[name].append(time.perf_counter() - began)
    print(f"{'':<16} {'ms':>7} {'ratio':>6} {'MB':>7} {'ratio':>6} {'difference':>11}")
    base = None
    for name, step in steps.items():
        own = statistics.median(times[name]), peak(step)
        base = base or own
        off = max(np.max(np.abs(d - w)) / np.max(np.abs(w)) for d, w in zip(step(), want))
        print(f"{name:<16} {1e3 * own[0]:7.0f} {own[0] / base[0]:6.2f} {own[1] / 1e6:7.1f} "
              f"{own[1] / base[1]:6.3f} {off:11.1e}")


def unrolled(g, z, steps):
    """The inverse by `steps` of Picard, its kernels normalised once, as in the block."""
    function, weights = functionalize(g)
    return solvers.Unrolled(steps)(lambda x: z - function(weights, x), z).value


def near_norm_one(coeff=0.98):
    """`x -> Q^T phi(Q x)` with 3x3 convolutions, each at its bound, as training brings them."""
    g = keras.Sequential([layers.InducedNormConv2D(32, 3, coeff), layers.LipSwish(),
                          layers.InducedNormConv2D(_SHAPE[-1], 3, coeff)])
    g.build((None, *_SHAPE))
    rng = np.random.RandomState(0)
    q = np.linalg.qr(rng.randn(32, _SHAPE[-1]))[0].T
    for layer, center in ((g.layers[0], q), (g.layers[2], q.T)):
        kernel = 0.02 * rng.randn(*layer.kernel.shape)
        kernel[1, 1] += 2 * center
        layer.kernel.assign(kernel)
        layer.refresh_norm()
    return g


def gradient(inverse, z, g):
    """The traced gradient of the mean square of samples by z and the weights of g."""
    sources = [z, *(v.value for v in g.trainable_variables)]

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = tf.reduce_mean(tf.sin(inverse(z)))
        return tape.gradient(loss, sources)

    step()
    return step


if __name__ == "__main__":
    main()
