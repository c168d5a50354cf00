"""Distributions of other libraries, and plain functions, as targets."""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check, check_function
from tfresflow.checks.sizes import as_sizes
from tfresflow.targets.joint import JointTarget, PinnedTarget, has_parts
from tfresflow.targets.target import Target, in_dtype

__all__ = ["as_target"]


def as_target(thing, event_shape=None, dtype=None):
    """What is a log-density, or has one, as a target.

    Args:
      thing: one of
        (1) a target: a `Target`, or what has `log_prob`, `event_shape` and `log_z`; it is returned
        as it is;
        (2) a distribution as TFP has them, with `log_prob`, `event_shape` and `sample`: its `log_z`
        is 0;
        (3) a joint distribution of TFP's, or one that is pinned to data (`experimental_pin`), whose
        parts may have any support. x is then a vector of all free numbers, unconstrained: the
        default bijector of each part takes it to the part's support, and its log-determinant is
        counted. `constrain(x)` gives the parts. The `log_z` of a pinned one, the evidence, is None;
        (4) a function `[N, *event_shape] -> [N]` of TensorFlow's differentiable operations.
      event_shape: of a function, the shape of one x; of others, it is only checked.
      dtype: that the log-density is computed in; None: that of a distribution, or that of x.

    Returns:
      A target. It has `sample` if the distribution has.

    Raises:
      ValueError: if `thing` is none of these, or is a batch of several distributions, or
        `event_shape` is missing or is not its own.

    Example:
      >>> import tensorflow as tf
      >>> import tensorflow_probability as tfp
      >>> from tfresflow import targets
      >>> quartic = targets.as_target(lambda x: -tf.reduce_sum(x ** 4, axis=1), event_shape=[3])
      >>> quartic.log_prob([[0.0, 1.0, 0.0]]).numpy().tolist()
      [-1.0]
      >>> tfd = tfp.distributions
      >>> joint = tfd.JointDistributionNamedAutoBatched({
      ...     "scale": tfd.Gamma(2.0, 2.0), "x": lambda scale: tfd.Normal([0.0, 0.0], scale)})
      >>> posterior = targets.as_target(joint.experimental_pin(x=[0.5, -1.0]))
      >>> posterior.event_shape, posterior.log_z
      ((1,), None)
      >>> bool(posterior.constrain([[-3.0]])["scale"][0] > 0)
      True
    """
    event_shape = None if event_shape is None else as_sizes("event_shape", event_shape)
    dtype = None if dtype is None else tf.as_dtype(dtype).name
    if not isinstance(thing, type) and hasattr(thing, "event_shape"):
        found = _with_shape(thing, dtype)
        check(event_shape in (None, tuple(found.event_shape)), "event_shape",
              f"be that of the target, {tuple(found.event_shape)}", event_shape)
        return found
    check_function("thing", thing, "be a target, a distribution with `log_prob` and `event_shape`, "
                   "or a function of x", 1)
    check(event_shape is not None, "event_shape", "be given with a function", event_shape)
    return _OfFunction(thing, event_shape, dtype)


def _with_shape(thing, dtype):
    """`as_target` of what has an `event_shape`."""
    if hasattr(thing, "log_prob") and hasattr(thing, "log_z"):
        return thing
    if has_parts(thing):
        return (JointTarget if hasattr(thing, "sample") else PinnedTarget)(thing)
    check(callable(getattr(thing, "log_prob", None)), "thing", "have `log_prob`", thing)
    return (_OfDistribution if hasattr(thing, "sample") else _OfDensity)(thing, dtype)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class _OfFunction(Target):
    """A function `x -> log_prob(x)`."""

    function: typing.Any
    shape: tuple
    dtype: str | None = None

    @property
    def event_shape(self):
        return tuple(self.shape)

    def log_density(self, x):
        return in_dtype(self.function, x, self.event_shape, self.dtype)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class _OfDensity(Target):
    """What has `log_prob` and `event_shape`, and no samples: Z is not known."""

    distribution: typing.Any
    dtype: str | None = None

    def __post_init__(self):
        shapes = [tf.TensorShape(getattr(self.distribution, f"{kind}_shape", []))
                  for kind in ("event", "batch")]
        check(shapes[0].is_fully_defined() and shapes[0].rank > 0 and shapes[1].rank == 0, "thing",
              "have an event shape of at least one dimension, all known, and no batch shape "
              "(tfd.Sample or tfd.Independent)", self.distribution)

    @property
    def event_shape(self):
        return tuple(self.distribution.event_shape)

    def log_density(self, x):
        dtype = self.dtype or getattr(self.distribution, "dtype", None)
        return in_dtype(self.distribution.log_prob, x, self.event_shape, dtype)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class _OfDistribution(_OfDensity):
    """A normalised distribution."""

    log_z = 0.0

    def sample(self, n, seed=None, dtype=None):
        """`[n, ...]`, of the distribution's own dtype unless another is asked for."""
        x = self.distribution.sample(n, seed=seeds.as_seed(seed))
        return x if dtype is None else tf.cast(x, dtype)
