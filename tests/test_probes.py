"""Random vectors of the trace estimate: `E[v v^T] = I`, and what they cancel."""

import numpy as np
import pytest
import tensorflow as tf

from tfresflow import logdet
from tfresflow.batches.seeds import Part, as_seed

PROBES = {"normal": logdet.normal, "rademacher": logdet.rademacher,
          "orthogonal": logdet.orthogonal}
every_probe = pytest.mark.parametrize("probe", PROBES.values(), ids=PROBES)


@every_probe
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 5, 64, 65])
def test_a_part_has_the_probes_of_the_whole(probe, count, size):
    whole = probe([150, count, size], Part(as_seed(7)), tf.float32)
    assert whole.shape == [150, count, size] and whole.dtype == tf.float32
    for first, n in ((0, 150), (1, 5), (75, 75), (149, 1), (63, 0)):
        part = probe([n, count, size], Part(as_seed(7), tf.constant(first, tf.int64)), tf.float32)
        np.testing.assert_array_equal(part, whole[first:first + n])
    traced = tf.function(lambda x: probe([tf.shape(x)[0], count, size], Part(as_seed(7)),
                                         tf.float32), input_signature=[tf.TensorSpec([None])])
    np.testing.assert_allclose(traced(tf.zeros([150])), whole, rtol=1e-6, atol=1e-6)


@every_probe
def test_each_probe_is_unbiased(probe):
    """Wherever it is in the batch: of 4,000 seeds, each entry of v v^T within 5 standard errors."""
    draw = tf.function(lambda seed: probe([6, 2, 3], Part(seed), tf.float64), autograph=False)
    v = np.stack([draw(tf.constant([0, seed])) for seed in range(4000)])
    v = v.reshape(4000, 12, 3)
    products = v[..., :, np.newaxis] * v[..., np.newaxis, :]
    stderr = products.std(axis=0, ddof=1) / np.sqrt(len(v))
    assert np.all(np.abs(products.mean(axis=0) - np.eye(3)) <= 5 * stderr + 1e-12)
    assert np.all(np.abs(v.mean(axis=0)) <= 5 / np.sqrt(len(v)))


@pytest.mark.parametrize("shape, m", [([1], 1), ([2], 2), ([3], 4), ([2, 2, 2], 8), ([64], 64)])
@pytest.mark.parametrize("count", [1, 2])
def test_groups_of_orthogonal_probes_are_exact(shape, m, count):
    """From any group's start, whatever the part begins with; other groups, other signs."""
    v = logdet.orthogonal([4 * m // count + 1, count, *shape], Part(as_seed(3)), tf.float64)
    v = np.reshape(v, [-1, np.prod(shape)])[:4 * m].reshape(4, m, -1)
    assert set(np.unique(v)) <= {-1.0, 1.0}
    for group in v:
        np.testing.assert_array_equal(group.T @ group, m * np.eye(v.shape[2]))
    assert m < 8 or not np.array_equal(v[0], v[1])


def test_examples_of_many_numbers_have_independent_signs():
    args = [10, 1, 65], Part(as_seed(3)), tf.float32
    np.testing.assert_array_equal(logdet.orthogonal(*args), logdet.rademacher(*args))


def test_the_noise_of_a_batch_is_less():
    """Of blocks that are nearly linear; each example by itself is as noisy as with signs."""
    W = 0.7 * np.linalg.qr(np.random.RandomState(0).randn(5, 5))[0]
    x, sd = tf.constant(np.random.RandomState(1).randn(64, 5)), {}

    for probe in (logdet.rademacher, logdet.orthogonal):
        estimate = logdet.LogDet(logdet.Truncated(8), probe=probe)
        draw = tf.function(lambda seed: estimate(
            lambda x: tf.matmul(tf.sin(0.3 * x), tf.constant(W)), x, seed)[1], autograph=False)
        found = np.stack([draw(tf.constant([0, seed])) for seed in range(200)])
        sd[probe] = found.std(axis=0).mean(), found.mean(axis=1).std()
    (of_one, of_mean), (one, mean) = sd.values()
    assert one == pytest.approx(of_one, rel=0.1) and mean < 0.2 * of_mean, sd
