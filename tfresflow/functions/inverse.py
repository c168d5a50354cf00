"""A step of a flow the other way round, from the products that the step itself has.

`vijp` of a step is the derivative through its inverse, and `vjp` undoes it: with x the solution and
ell the log-determinant of the step `x -> z`, that of `z -> x` is `-ell(x)`, and of a loss
`a(x) + <d, -ell(x)>`, da the derivative of a,

    dz = (dz/dx)^-T (da - grad_x <d, ell>)
    dweights = -(dz/dweights)^T dz - d<d, ell>/dweights

which are the `dz` and, but for the sign, the `dweights` that `step.vijp` returns.
"""

import operator

import tensorflow as tf

from tfresflow.functions.steps import Rows, Step

__all__ = ["Inverse"]


class Inverse(Step):
    """`z -> x` of a step `x -> z`; keeps x, and no more, between the passes.

    Args:
      step: a `Step`.
    """

    @classmethod
    def of(cls, step):
        """The step `z -> x`, by `inverted` of a step that has it."""
        return step.inverted() or cls(step)

    # Of the size of z, which is not kept: nothing has to be solved twice.
    is_light = True

    def __init__(self, step):
        self._step, self.weights = step, step.weights

    def value(self, x, rows):
        return self._step.solve(x, rows)

    def linearise(self, x, rows):
        z = self._step.solve(x, rows)

        def pull(dz, dlog_det):
            _, dx, log_det, dweights = self._step.vijp(z, rows, dz, dlog_det)
            return dx, -log_det, list(map(operator.neg, dweights))

        return z, pull

    def vijp(self, x, rows, dx, dlog_det):
        z = self._step.solve(x, rows)
        dz, log_det, dweights = self._step.vjp(z, rows, dx, dlog_det)
        return z, dz, -log_det, list(map(operator.neg, dweights))

    def bounds(self, x, rows):
        z = self._step.solve(x, rows)
        _, lower, upper = self._step.bounds(z, rows)
        return z, -upper, -lower

    def inverse(self, z):
        first, *_ = tf.nest.flatten(z)
        return self._step.value(z, Rows(tf.range(tf.shape(first)[0])))

    def inverted(self):
        return self._step
