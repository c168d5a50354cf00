"""The eight two-dimensional densities of this field, as stateless samplers.

The recipes are those that FFJORD (Grathwohl et al. 2019) and Residual Flows use.
"""

import math

import tensorflow as tf

from train.data.source import SPLITS, Source

__all__ = ["ENTROPIES", "TOYS", "source"]


def source(settings):
    """Samples `[2]` without end: `fetch(n, seed)`."""
    sampler = TOYS[settings.data]
    return Source("toy", (2,), {"train": None, "validation": settings.n_test,
                                "test": settings.n_test},
                  {split: sampler for split in SPLITS}, entropy=ENTROPIES[settings.data])


# Nats. Checkerboard: uniform on eight squares of side 2. The others are integrals over the plane of
# a histogram of 6e7 samples, cells of 0.02 and 0.04 extrapolated to 0; a test makes them again.
ENTROPIES = {"pinwheel": 2.317, "swissroll": 2.670, "8gaussians": 2.832, "circles": 3.268,
             "moons": 2.394, "2spirals": 2.645, "checkerboard": math.log(32), "rings": 3.486}


def _uniform(n, seed, i, low=0.0, high=1.0):
    return tf.random.stateless_uniform([n], tf.random.fold_in(seed, i), low, high)


def _normal(n, seed, i, std=1.0):
    return tf.random.stateless_normal([n, 2], tf.random.fold_in(seed, i), stddev=std)


def _integer(n, seed, i, below):
    return tf.cast(tf.floor(_uniform(n, seed, i) * below), tf.float32)


def _polar(radius, angle):
    return tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)], axis=1)


def _pinwheel(n, seed):
    features = _normal(n, seed, 0) * [0.3, 0.1]
    radial, tangential = features[:, 0] + 1, features[:, 1]
    angle = _integer(n, seed, 1, 5) * (2 * math.pi / 5) + 0.25 * tf.exp(radial)
    turned = [radial * tf.cos(angle) - tangential * tf.sin(angle),
              radial * tf.sin(angle) + tangential * tf.cos(angle)]
    return 2 * tf.stack(turned, axis=1)


def _swissroll(n, seed):
    t = 1.5 * math.pi * (1 + 2 * _uniform(n, seed, 0))
    return (_polar(t, t) + _normal(n, seed, 1)) / 5


def _eight_gaussians(n, seed):
    angle = _integer(n, seed, 0, 8) * (math.pi / 4)
    return (_polar(4.0, angle) + _normal(n, seed, 1, 0.5)) / 1.414


def _circles(n, seed):
    radius = 1 - 0.5 * _integer(n, seed, 0, 2)
    return 3 * (_polar(radius, _uniform(n, seed, 1, 0, 2 * math.pi)) + _normal(n, seed, 2, 0.08))


def _rings(n, seed):
    radius = (1 + _integer(n, seed, 0, 4)) / 4
    return 3 * (_polar(radius, _uniform(n, seed, 1, 0, 2 * math.pi)) + _normal(n, seed, 2, 0.08))


def _moons(n, seed):
    upper = _polar(1.0, _uniform(n, seed, 0, 0, math.pi))
    lower = tf.constant([1.0, 0.5]) - upper
    which = _integer(n, seed, 1, 2)[:, None]
    x = which * upper + (1 - which) * lower + _normal(n, seed, 2, 0.1)
    return 2 * x + tf.constant([-1.0, -0.2])


def _two_spirals(n, seed):
    t = tf.sqrt(_uniform(n, seed, 0)) * (3 * math.pi)
    offset = 0.5 * tf.stack([_uniform(n, seed, 1), _uniform(n, seed, 2)], axis=1)
    arm = tf.stack([-tf.cos(t) * t, tf.sin(t) * t], axis=1) + offset
    sign = 1 - 2 * _integer(n, seed, 3, 2)[:, None]
    return sign * arm / 3 + _normal(n, seed, 4, 0.1)


def _checkerboard(n, seed):
    x = _uniform(n, seed, 0, -2, 2)
    y = _uniform(n, seed, 1) - 2 * _integer(n, seed, 2, 2) + tf.math.floormod(tf.floor(x), 2.0)
    return 2 * tf.stack([x, y], axis=1)


TOYS = {"pinwheel": _pinwheel, "swissroll": _swissroll, "8gaussians": _eight_gaussians,
        "circles": _circles, "moons": _moons, "2spirals": _two_spirals,
        "checkerboard": _checkerboard, "rings": _rings}
