"""The stochastic log-determinant of a residual block, put together from its choices."""

import dataclasses
import typing

import keras
import tensorflow as tf

from tfresflow import seeds
from tfresflow.configurable import Configurable
from tfresflow.functional import functional, shared
from tfresflow.logdet.coefficients import Poisson
from tfresflow.logdet.memory import Auto
from tfresflow.logdet.series import Neumann

__all__ = ["LogDet", "normal", "rademacher"]


@keras.saving.register_keras_serializable("tfresflow")
def normal(shape, seed, dtype):
    """Probes `v ~ N(0, I)`."""
    return seeds.normal(seed, shape, dtype)


@keras.saving.register_keras_serializable("tfresflow")
def rademacher(shape, seed, dtype):
    """Probes of independent signs: the least variance among probes with independent entries."""
    return tf.cast(2 * (seeds.bits(seed, shape) & 1) - 1, dtype)


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class LogDet(Configurable):
    """Stochastic estimate of `log det(I + dg/dx)` together with `g(x)`.

    Costs one evaluation of g and one vector-Jacobian product a term and probe. Three
    independent choices, each an object:

    Args:
      coefficients: how many terms, how weighted: `Truncated`, `Geometric` or `Poisson`.
      gradient: `Neumann()` or `Series()`.
      memory: `Auto()`, `Recompute()`, `Released()` or `Tape()`.
      probe: `normal` or `rademacher`, or any `probe(shape, seed, dtype)` with E[v v^T] = I for
        each row of `shape = [N, num_probes, ...]`, made of `seeds.normal` or `seeds.bits` of
        its `seed`.
      num_probes: probes that are averaged; they share one evaluation of g.

    Example:

    ```python
    log_det = LogDet(Poisson(rate=2., n_exact=2))
    g_x, value = log_det(branch, x, seed=0)       # [N, D], [N]
    ```
    """

    coefficients: typing.Any = Poisson()
    gradient: typing.Any = Neumann()
    memory: typing.Any = Auto()
    probe: typing.Any = normal
    num_probes: int = 1

    def __post_init__(self):
        if self.num_probes < 1:
            raise ValueError("`num_probes` must be at least 1. "
                             f"Received: num_probes={self.num_probes}")

    def __call__(self, g, x, seed=None):
        """Evaluates g and the estimate.

        Args:
          g: a built Keras layer, or a function that uses no variables; keeps the shape.
          x: `[N, ...]`.
          seed: None, an integer, a `[2]` tensor or a `seeds.Part`. One number of terms is drawn
            for the whole batch, one probe for each example.

        Returns:
          `(g(x), log_det)`: `[N, ...]` and `[N]`, nats.
        """
        pure, weights = functional(g)
        seed = seeds.as_seed(seed)
        part = seed if isinstance(seed, seeds.Part) else seeds.Part(seed)
        first = tf.convert_to_tensor(part.first, tf.int64)
        v, c = shared(_draw, self.coefficients, self.probe, self.num_probes)(x, part.seed, first)
        return self.memory(pure, weights, x, v, c, self.gradient)


def _draw(coefficients, probe, num_probes, x, seed, first):
    """The probes, a tuple of `[N, ...]`, and the weights of the terms `[n + 1]`."""
    shape = tf.concat([tf.shape(x)[:1], [num_probes], tf.shape(x)[1:]], axis=0)
    v = probe(shape, seeds.Part(seeds.fold_in(seed, 1), first), x.dtype)
    v = tf.ensure_shape(v, [x.shape[0], num_probes, *x.shape[1:]])
    return tuple(tf.unstack(v, axis=1)), coefficients.draw(seeds.fold_in(seed, 0), x.dtype)
