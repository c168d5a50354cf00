"""What a residual block takes as `log_det`."""

from tfresflow.functions.steps import Paired, say_together

__all__ = ["Estimator", "bind"]


class Estimator:
    """`(g, x, seed) -> (g(x), log_det)`, and the step of a flow that follows from it."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        say_together(cls, "bind", "__call__", by=Estimator)

    def __call__(self, g, x, seed=None):
        """`(g(x), log_det)`: `[N, ...]` and `[N]`, nats."""
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def bind(self, g, seed, spec, inverse, adjoint):
        """The step `x -> x + g(x)`, see `LogDet.bind`: as the estimate says, by a tape."""
        del spec, adjoint

        def pair(x, seed):
            y, log_det = self(g, x, seed)
            return x + y, log_det

        return Paired(pair, inverse, [v.value for v in g.trainable_variables], seed)


def bind(log_det, *args):
    """`Estimator.bind` of one, or of a function that stands for one."""
    if hasattr(log_det, "bind"):
        return log_det.bind(*args)
    return Estimator.bind(log_det, *args)
