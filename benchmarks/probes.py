"""Probes for `benchmarks.variance`: `(rng, n, places, m, once) -> [m, n, blocks, D]`.

m probes for each of n examples in each block, whose mean E[v v^T] is I; `places [blocks, D]` are
the `kinds`, and `once(v, 0, 0)` is the `variance.estimator`.
"""

import math

import numpy as np
import scipy.linalg
import tensorflow as tf

from tfresflow import logdet, seeds

__all__ = ["hadamard", "hutch", "kinds", "normal", "over_batch", "over_blocks", "same", "signs",
           "signs_over_batch", "sphere"]


def normal(rng, n, places, m, once):
    return rng.randn(m, n, *places.shape)


def signs(*args):
    return np.sign(normal(*args))


def sphere(rng, n, places, m, once):
    """Uniform on it, those of an example orthogonal."""
    return np.moveaxis(_orthogonal(rng, (n, len(places)), places.shape[1], m), 2, 0)


def over_batch(rng, n, places, m, once):
    """Of the sphere, orthogonal in groups of examples."""
    blocks, size = places.shape
    v = _orthogonal(rng, (blocks, -(-n // size)), size, min(n, size))
    return v.reshape(1, blocks, -1, size)[:, :, :n].swapaxes(1, 2)


def signs_over_batch(rng, n, places, m, once):
    """The default of `LogDet`: signs, orthogonal in groups of examples."""
    parts = [seeds.Part(seeds.as_seed(rng.randint(2 ** 31))) for _ in places]
    shape = [n, 1, places.shape[1]]
    drawn = [logdet.orthogonal(shape, part, tf.float32) for part in parts]
    return np.stack(drawn, axis=2).swapaxes(0, 1)


def over_blocks(rng, n, places, m, once):
    """Of the sphere, orthogonal in groups of blocks."""
    return over_batch(rng, len(places), np.zeros([n, places.shape[1]]), m, once).swapaxes(1, 2)


def same(rng, n, places, m, once):
    """Signs, the same for all blocks."""
    return np.repeat(signs(rng, n, places[:1], m, once), len(places), axis=2)


def hadamard(rng, n, places, m, once):
    """Signs times rows of a Hadamard matrix: m of them cancel what is between m kinds of places."""
    rows = scipy.linalg.hadamard(m)[:, places % m]
    return rows[:, None] * signs(rng, n, places, 1, once)


def hutch(rng, n, places, m, once):
    """Hutch++ of the whole series: exact along one product of J with signs, and signs beside it."""
    sketch, v = signs(rng, n, places, 2, once)
    q = np.stack([u.numpy().reshape(n, -1) for u in once(sketch, 0.0, 0.0)[2]], axis=1)
    q /= np.linalg.norm(q, axis=2, keepdims=True)
    return math.sqrt(2) * np.stack([q, v - q * np.sum(q * v, axis=2, keepdims=True)])


def kinds(shape):
    """`[D]`: of four kinds, so that no neighbours in an image are of one."""
    at = np.indices(shape)
    return np.ravel(2 * (at[0] % 2) + at[1] % 2 if len(shape) == 3 else at[0])


def _orthogonal(rng, shape, size, m):
    return math.sqrt(size) * np.linalg.qr(rng.randn(*shape, size, m))[0].swapaxes(-1, -2)
