"""Mixtures of normals."""

import dataclasses
import math
import typing

import keras
import numpy as np
import tensorflow as tf

from tfresflow.checks.rules import check, check_number
from tfresflow.checks.sizes import as_size
from tfresflow.targets.target import Target, drawn

__all__ = ["GaussianMixture"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class GaussianMixture(Target):
    """`p(x) = sum_k w_k N(x; m_k, variance I)`, normalised: `log_z` is 0.

    Given `dimensions` alone, there are 2^D modes, at all combinations of +1 and -1, of equal
    weight. That mixture is a product over the coordinates and is computed as one, so D may be
    large.

    Args:
      dimensions: D; None: as `locs` has it.
      locs: the means m_k, `[K, D]`; None: the 2^D combinations of +1 and -1.
      weights: `[K]` positive numbers, in proportion to the weights w_k; None: equal ones.
      variance: of every coordinate of every mode, positive, or `[D]` of them.

    Raises:
      ValueError: if an argument is not what it should be, or both `dimensions` and `locs` are None.

    Example:
      >>> from tfresflow import targets
      >>> target = targets.GaussianMixture(6)                 # 64 modes
      >>> x = target.sample(5, seed=0)
      >>> x.shape, target.log_prob(x).shape
      (TensorShape([5, 6]), TensorShape([5]))
      >>> targets.GaussianMixture(locs=[[0.0, 0.0], [3.0, 4.0]], weights=[1, 3]).event_shape
      (2,)

    References: Vaitl et al., Fast and unified path gradient estimators for normalizing flows
    (2024), section 5.
    """

    dimensions: int | None = None
    locs: typing.Any = None
    weights: typing.Any = None
    variance: typing.Any = 0.5

    log_z = 0.0

    def __post_init__(self):
        locs = self._array("locs", (None, self.dimensions), "[K, D]")
        check(locs is not None or self.dimensions is not None, "dimensions",
              "be a number, or `locs` be given", self.dimensions)
        size = as_size("dimensions", self.dimensions if locs is None else locs.shape[1])
        if locs is None:
            check(self.weights is None, "weights", "be None where `locs` is None", self.weights)
        else:
            weights = self._array("weights", (len(locs),), "[K], one for each of `locs`")
            check(weights is None or (weights > 0).all(), "weights", "be positive", self.weights)
        if np.ndim(self.variance):
            variance = self._array("variance", (size,), "[D]")
            check((variance > 0).all(), "variance", "be positive", self.variance)
        else:
            check_number("variance", self.variance, "be positive", lambda v: 0 < v < math.inf)
        object.__setattr__(self, "dimensions", size)

    @property
    def event_shape(self):
        """`(D,)`."""
        return (self.dimensions,)

    def log_density(self, x):
        """`log p(x)`, see `log_prob`."""
        variance = tf.constant(np.broadcast_to(self.variance, [self.dimensions]), x.dtype)
        constant = tf.reduce_sum(tf.math.log(2 * math.pi * variance)) / 2
        if self.locs is None:
            # log (N(x; 1, s) + N(x; -1, s)) / 2 of each coordinate: none of the exponents is large.
            pairs = tf.math.softplus(-2 * tf.abs(x) / variance) - math.log(2)
            nearest = (tf.abs(x) - 1) ** 2 / (2 * variance)
            return tf.reduce_sum(pairs - nearest, axis=-1) - constant
        differences = x[..., tf.newaxis, :] - tf.constant(self.locs, x.dtype)
        exponents = -tf.reduce_sum(differences ** 2 / (2 * variance), axis=-1)
        return tf.reduce_logsumexp(exponents + self._log_weights(x.dtype), axis=-1) - constant

    def sample(self, n, seed=None, dtype=None):
        """`[n, D]` exact samples; `seed` as for `seeds.as_seed`."""
        (for_modes, for_noise), dtype = drawn(seed, 2, dtype)
        noise = tf.random.stateless_normal([n, self.dimensions], for_noise, dtype=dtype)
        noise *= tf.sqrt(tf.constant(self.variance, dtype))
        if self.locs is None:
            signs = tf.random.stateless_uniform([n, self.dimensions], for_modes, 0, 2, tf.int32)
            return 2 * tf.cast(signs, dtype) - 1 + noise
        logits = tf.reshape(self._log_weights(dtype), [1, -1])
        modes = tf.random.stateless_categorical(logits, n, for_modes)[0]
        return tf.gather(tf.constant(self.locs, dtype), modes) + noise

    def _log_weights(self, dtype):
        weights = np.ones(len(self.locs)) if self.weights is None else np.asarray(self.weights)
        return tf.constant(np.log(weights / weights.sum()), dtype)

    def _array(self, name, shape, rule):
        """A field as an array of this shape, kept as nested tuples, which are hashable; or None."""
        given = getattr(self, name)
        if given is None:
            return None
        array = np.asarray(given, "float64")
        fits = array.ndim == len(shape) and array.size and all(
            want in (None, have) for want, have in zip(shape, array.shape))
        check(fits and np.isfinite(array).all(), name, f"be finite numbers {rule}", given)
        object.__setattr__(self, name, _tuples(array.tolist()))
        return array


def _tuples(nested):
    return tuple(map(_tuples, nested)) if isinstance(nested, list) else nested
