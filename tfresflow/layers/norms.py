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
    """Largest singular values of operators that are given by their products.

    Args:
      matvec: `v -> W v`; `[B, ...]` for B operators at once, any shapes.
      adjoint: `u -> W^T u`.
      u, v: `[B, ...]`, where to start; a good start saves most of the steps.
      max_steps: steps, or the most of them when `rtol` is given.
      rtol, atol: stop when every estimate moved by at most `atol + rtol * s`; None: never.

    Returns:
      `(u, v, s)`: singular vectors of unit norm and the estimates `[B]`.
    """
    def step(k, u, v, s, change):
        new_u = _normalize(matvec(v))
        z = adjoint(new_u)
        new_s = _norm(z)
        return k + 1, new_u, _normalize(z), new_s, tf.abs(new_s - s)

    def going_on(k, u, v, s, change):
        del u, v
        if rtol is None:
            return k < max_steps
        return (k < max_steps) & tf.reduce_any(change > atol + rtol * s)

    zero = tf.zeros_like(_norm(v))
    state = (tf.constant(0), u, _normalize(v), zero, zero + v.dtype.max)
    _, u, v, s, _ = tf.while_loop(going_on, step, state)
    return u, v, s


def _norm(x):
    return tf.norm(tf.reshape(x, [x.shape[0], -1]), axis=1)


def _normalize(x):
    # A zero operator has norm 0 whatever the vectors: keep them finite.
    norm = tf.maximum(_norm(x), tf.constant(1e-30, x.dtype))
    return x / tf.reshape(norm, [-1] + [1] * (x.shape.rank - 1))
