"""Steps of a part of what a flow carries: of x beside what waits, or beside a context."""

from tfresflow.functions.steps import Step

__all__ = ["Moved", "OnFirst", "Swapped"]


class OnFirst(Step):
    """A step of the first of two, `(x, other) -> (step(x), other)`.

    Args:
      step: a `Step`.
    """

    def __init__(self, step):
        self._step, self.weights, self.is_light = step, step.weights, step.is_light
        self.ends_scale = step.ends_scale

    def value(self, x, rows):
        return self._step.value(x[0], rows), x[1]

    def linearise(self, x, rows):
        z, pull = self._step.linearise(x[0], rows)
        return (z, x[1]), lambda dz, dlog_det: _beside(dz[1], *pull(dz[0], dlog_det))

    def vjp(self, x, rows, dz, dlog_det):
        return _beside(dz[1], *self._step.vjp(x[0], rows, dz[0], dlog_det))

    def vijp(self, x, rows, dx, dlog_det):
        z, dz, *others = self._step.vijp(x[0], rows, dx[0], dlog_det)
        return (z, x[1]), (dz, dx[1]), *others

    def value_vjp(self, x, rows, dz):
        dx, dweights = self._step.value_vjp(x[0], rows, dz[0])
        return (dx, dz[1]), dweights

    def value_vijp(self, x, rows, dx):
        dz, dweights = self._step.value_vijp(x[0], rows, dx[0])
        return (dz, dx[1]), dweights

    def bounds(self, x, rows):
        z, lower, upper = self._step.bounds(x[0], rows)
        return (z, x[1]), lower, upper

    def release(self, x, rows, dlog_det):
        z, pull = self._step.release(x[0], rows, dlog_det)
        return (z, x[1]), lambda dz: _beside(dz[1], *pull(dz[0]))

    def inverse(self, z):
        return self._step.inverse(z[0]), z[1]

    def solve(self, z, rows):
        return self._step.solve(z[0], rows), z[1]

    def inverted(self):
        inner = self._step.inverted()
        return None if inner is None else OnFirst(inner)


def _beside(other, dx, log_det, dweights):
    return (dx, other), log_det, dweights


class Moved(Step):
    """A step that only puts numbers elsewhere: `value` and `inverse` are linear, log_det is 0."""

    weights = ()

    def linearise(self, x, rows):
        return self.value(x, rows), lambda dz, dlog_det: (
            self.inverse(dz), 0 * dlog_det, [])

    def vijp(self, x, rows, dx, dlog_det):
        return self.value(x, rows), self.value(dx, rows), 0 * dlog_det, []


class Swapped(Moved):
    """`((a, b), c) -> ((a, c), b)`, which is its own inverse."""

    def value(self, x, rows):
        return self.inverse(x)

    def inverse(self, z):
        (a, b), c = z
        return (a, c), b
