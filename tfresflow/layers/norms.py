"""Power iteration for the induced norm of a linear operator, from products alone.

    ||W||_2 = max ||W v|| / ||v||:   u <- W v / ||W v||,   v <- W^T u / ||W^T u||,   s = <u, W v>

s grows towards the largest singular value and never passes it: an estimate from below,
exact in the limit.
"""

import dataclasses

import keras
import tensorflow as tf

from tfresflow.configurable import Configurable

__all__ = ["PowerIteration", "power_iteration"]


@keras.saving.register_keras_serializable("tfresflow")
@dataclasses.dataclass(frozen=True)
class PowerIteration(Configurable):
    """When power iteration stops: after a count of steps, or by tolerance.

    Args:
      num_steps: fixed number of steps; None for tolerance.
      rtol, atol: stop when a step changes the estimate by at most `atol + rtol * s`.
      max_steps: most steps when stopping by tolerance.
    """

    num_steps: int | None = None
    rtol: float = 1e-3
    atol: float = 0.0
    max_steps: int = 200

    def __post_init__(self):
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError("`num_steps` must be at least 1, or None to stop by tolerance. "
                             f"Received: num_steps={self.num_steps}")
        for name in ("rtol", "atol"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative. "
                                 f"Received: {name}={getattr(self, name)}")
        if self.max_steps < 1:
            raise ValueError("`max_steps` must be at least 1. "
                             f"Received: max_steps={self.max_steps}")

    def __call__(self, matvec, adjoint, u, v):
        """`(u, v, s)` after this many steps; see `power_iteration`."""
        if self.num_steps is not None:
            return power_iteration(matvec, adjoint, u, v, max_steps=self.num_steps)
        return power_iteration(matvec, adjoint, u, v, max_steps=self.max_steps,
                               rtol=self.rtol, atol=self.atol)


def power_iteration(matvec, adjoint, u, v, *, max_steps, rtol=None, atol=0.0):
    """Largest singular value of an operator that is given by its products.

    Args:
      matvec: `v -> W v`, any shapes.
      adjoint: `u -> W^T u`.
      u, v: where to start; a good start saves most of the steps.
      max_steps: steps, or the most of them when `rtol` is given.
      rtol, atol: stop when the estimate moved by at most `atol + rtol * s`; None: never.

    Returns:
      `(u, v, s)`: singular vectors of unit norm and the estimate, a scalar.
    """
    def step(k, u, v, s, change):
        new_u = _normalize(matvec(v))
        z = adjoint(new_u)
        new_s = tf.norm(z)
        return k + 1, new_u, _normalize(z), new_s, tf.abs(new_s - s)

    def going_on(k, u, v, s, change):
        del u, v
        if rtol is None:
            return k < max_steps
        return (k < max_steps) & (change > atol + rtol * s)

    zero = tf.zeros([], v.dtype)
    state = (tf.constant(0), u, _normalize(v), zero, tf.constant(v.dtype.max, v.dtype))
    _, u, v, s, _ = tf.while_loop(going_on, step, state)
    return u, v, s


def _normalize(x):
    # A zero operator has norm 0 whatever the vectors: keep them finite.
    return x / tf.maximum(tf.norm(x), tf.constant(1e-30, x.dtype))
