"""Through all steps of a flow and back: what strategies for the gradient have in common."""

import functools
import typing

import tensorflow as tf

from tfresflow.checks.rules import check_kind

__all__ = ["Sweep", "Swept", "after", "check_sweep", "concatenated", "settled"]


class Swept(typing.NamedTuple):
    """What a sweep found.

    Args:
      outputs: what its `end` returned.
      dx, log_det, dweights: as in `Step.vjp`, for all steps.
      error: `[n]`, a measure of how wrong the derivative by each example is; None: it is exact.
    """

    outputs: typing.Any
    dx: typing.Any
    log_det: tf.Tensor
    dweights: list
    error: tf.Tensor | None = None

    @property
    def products(self):
        """What `Step.vjp` returns."""
        return self.dx, self.log_det, self.dweights


class Sweep:
    """The derivative of `a(z) + <d, log_det>`, step by step; here with all activations kept.

    A subclass overrides `forward`, which decides what is kept of a step, or `__call__`.

    Attributes:
      tolerance: a larger `Swept.error` is not trusted; None if this strategy measures none.
    """

    tolerance: float | None = None

    def __call__(self, steps, x, rows, dlog_det, end):
        """Goes through the steps, then back.

        Args:
          steps: of a flow that was bound, see `steps.py`.
          x: `[n, ...]`.
          rows: `Rows`.
          dlog_det: d, `[n]`.
          end: `z -> (outputs, dz)`, dz the derivative of a.

        Returns:
          A `Swept`.
        """
        pulls, log_dets, dweights = [], [], []
        for step in steps:
            x, pull = self.forward(step, x, rows, dlog_det)
            pulls.append(pull)
        outputs, dz = end(x)
        while pulls:  # emptied, so that what a step keeps lives no longer than it has to
            dz, log_det, own = pulls.pop()(dz)
            log_dets.append(log_det)
            dweights.append(own)
        return Swept(outputs, dz, tf.add_n(log_dets), concatenated(reversed(dweights)))

    def forward(self, step, x, rows, dlog_det):
        """`(z, pull)` of a step, where `pull(dz)` is `step.vjp(x, rows, dz, dlog_det)`."""
        z, pull = step.linearise(x, rows)
        return z, functools.partial(pull, dlog_det=dlog_det)


def after(done, state):
    """The tensors of `state`, once those of `done` are there.

    What is recomputed begins with them. TensorFlow would else begin it as soon as it can, or share
    it with the first evaluation, and so keep what it is there to free.
    """
    with tf.control_dependencies(tf.nest.flatten(done)):
        return tf.nest.map_structure(tf.identity, state)


def settled(rows, dweights, state):
    """The tensors of `state`, once a step's derivatives by weights, if asked for, are there.

    They are on nobody's way: what they are made of would else wait for them while the sweep goes
    on, for more and more steps.
    """
    return after(dweights, state) if rows.of_weights else state


def concatenated(lists):
    """The derivatives by the weights of several steps, as one list."""
    return [d for own in lists for d in own]


def check_sweep(autodiff, name="autodiff"):
    """Raises `ValueError` unless `autodiff` is a strategy for the gradient."""
    check_kind(name, autodiff, "be `Recomputed()`, `Stored()`, `Moonwalk()` or another strategy of "
               "tfresflow.autodiff", Sweep)
