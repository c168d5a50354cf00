"""Joint distributions of TFP's, whole or pinned to data, as densities of one free vector."""

import dataclasses
import functools
import math
import typing

import keras
import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.rules import check
from tfresflow.targets.target import Target, in_dtype

__all__ = ["JointTarget", "PinnedTarget", "has_parts"]


def has_parts(thing):
    """Whether an `event_shape` is that of a joint distribution: a structure of shapes."""
    return not (isinstance(thing.event_shape, tf.TensorShape)
                or all(size is None or isinstance(size, int) for size in thing.event_shape))


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class PinnedTarget(Target):
    """The joint density of the parts that are not pinned, of x without constraints, `[..., D]`.

        log_prob(x) = log p(b(x), data) + log |det db/dx|

    where the default bijector b takes each part to its support. x has the parts one after the
    other, flattened, as `tf.nest.flatten` sorts them.

    Args:
      distribution: has `unnormalized_log_prob`, `event_shape`, `dtype` and
        `experimental_default_event_space_bijector`.
    """

    distribution: typing.Any

    def __post_init__(self):
        bijector = getattr(self.distribution, "experimental_default_event_space_bijector", None)
        check(callable(bijector), "thing", "have `experimental_default_event_space_bijector`, as "
              "joint distributions of TFP's have", self.distribution)
        shapes = tf.nest.flatten(bijector().inverse_event_shape(self.distribution.event_shape))
        check(all(shape.is_fully_defined() for shape in shapes), "thing",
              "have parts of known event shapes", self.distribution)
        batches = tf.nest.flatten(getattr(self.distribution, "batch_shape", None))
        check(all(batch is None or batch.rank == 0 for batch in batches), "thing",
              "have no batch shape (use the joint distributions named AutoBatched)",
              self.distribution)

    @property
    def event_shape(self):
        """`(D,)`."""
        return (sum(math.prod(shape) for shape in self._shapes),)

    def log_density(self, x):
        return in_dtype(self._log_prob, x, self.event_shape, self._dtypes()[0])

    def constrain(self, x):
        """The parts, of their own shapes and supports, `[..., *part]`, that x `[..., D]` is.

        They have the structure that the distribution's samples have.
        """
        return self._bijector.forward(self._parts(self.take(x)))

    def unconstrain(self, parts):
        """The x `[..., D]` that parts are."""
        free = tf.nest.flatten(self._bijector.inverse(parts))
        return tf.concat([
            tf.reshape(tf.cast(part, free[0].dtype),
                       tf.concat([tf.shape(part)[:part.shape.rank - shape.rank], [-1]], 0))
            for part, shape in zip(free, self._shapes)], axis=-1)

    def _log_prob(self, x):
        parts, bijector = self._parts(x), self._bijector
        ranks = self._pack([shape.rank for shape in self._shapes])
        return self._log_prob_of(bijector.forward(parts)) + bijector.forward_log_det_jacobian(
            parts, ranks)

    def _log_prob_of(self, parts):
        return self.distribution.unnormalized_log_prob(parts)

    @functools.cached_property
    def _bijector(self):
        return self.distribution.experimental_default_event_space_bijector()

    @functools.cached_property
    def _structure(self):
        """Shapes of the parts without constraints."""
        return self._bijector.inverse_event_shape(self.distribution.event_shape)

    @property
    def _shapes(self):
        return tf.nest.flatten(self._structure)

    def _pack(self, flat):
        return tf.nest.pack_sequence_as(self._structure, flat)

    def _dtypes(self):
        return tf.nest.flatten(self.distribution.dtype)

    def _parts(self, x):
        shapes, lead = self._shapes, tf.shape(x)[:-1]
        pieces = tf.split(x, [math.prod(shape) for shape in shapes], axis=-1)
        return self._pack([tf.reshape(tf.cast(piece, dtype), tf.concat([lead, shape], 0))
                           for piece, shape, dtype in zip(pieces, shapes, self._dtypes())])


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class JointTarget(PinnedTarget):
    """A joint distribution that is not pinned: normalised, with exact samples."""

    log_z = 0.0

    def sample(self, n, seed=None, dtype=None):
        """`[n, D]`, of the distribution's own dtype unless another is asked for."""
        x = self.unconstrain(self.distribution.sample(n, seed=seeds.as_seed(seed)))
        return x if dtype is None else tf.cast(x, dtype)

    def _log_prob_of(self, parts):
        return self.distribution.log_prob(parts)
