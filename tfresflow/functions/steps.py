"""A flow as a list of steps, from which each strategy of `autodiff` makes the whole gradient.

    flow.bind(seed, size, dtype).steps      made once for each training step: norms are applied and
                                            numbers of terms drawn
      .weights                              tensors that derivatives are taken with respect to
      .value(x, rows) -> z
      .vjp(x, rows, dz, dlog_det) -> (dx, log_det, dweights)
      .linearise(x, rows) -> (z, pull)      pull(dz, dlog_det) is vjp, of what was kept
      .release(x, rows, dlog_det) -> (z, pull)     pull(dz) is vjp, the log-determinant's part done
      .vijp(x, rows, dx, dlog_det) -> (z, dz, log_det, dweights)     undoes vjp: dz of dx
      .value_vjp(x, rows, dz) -> (dx, dweights)      vjp of z alone, without the log-determinant
      .value_vijp(x, rows, dx) -> (dz, dweights)     undoes that
      .jvp(x, rows, tx, tweights) -> (z, tz, tlog_det)     forward mode: tangents
      .bounds(x, rows) -> (z, lower, upper)    proven bounds of the log-determinant
      .inverse(z) -> x
      .solve(z, rows) -> x      inverse, in chunks; not to be differentiated

The state x of a step is a tensor, or several in tuples: of a conditional flow `(x, context)`.
All are of the loss `a(z) + <d, log_det>`: dz is its derivative with respect to z by way of a,
`dlog_det [N]` is d, and dx its whole derivative with respect to x. The log-determinant is a result
like any other. A batch may go through in parts, whose `dweights` are added.
"""

import functools
import typing

import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.functions.sweep import Sweep, after

__all__ = ["Composed", "Paired", "Rows", "Step", "bind", "of_state", "say_together"]


class Rows(typing.NamedTuple):
    """Which rows of the batch are in the x that a step is given.

    Args:
      places: int32 `[n]`, consecutive: the places of these rows in the whole batch.
      chunk_bytes: see `autodiff.Recomputed`.
      of_weights: whether derivatives with respect to weights are asked for. Else a step may give
        zeros for them.
      seed: of the batch, as for `seeds.as_seed`, for strategies that draw.
    """

    places: tf.Tensor
    chunk_bytes: int | None = None
    of_weights: bool = True
    seed: typing.Any = None

    @property
    def start(self):
        """The place of the first row; 0 if there is none."""
        return tf.reduce_sum(self.places[:1])


class Step:
    """One step of a flow, as a function of x alone: weights are read and random numbers drawn.

    A subclass defines `value` and `linearise`; also `vjp`, if it can find the derivative without
    keeping anything between the passes.

    Attributes:
      weights: tensors with respect to which derivatives are taken.
      inverse: `z -> x`.
      is_light: whether its activations take so little memory that they are kept.
      ends_scale: whether its x is what a scale ends with: features, for a head.
      is_bijection: whether z follows from x alone, so that there is a `vijp`.
    """

    is_light = ends_scale = False
    is_bijection = True

    @property
    def steps(self):
        return [self]

    def value(self, x, rows):
        """z of x, `[n, ...]`."""
        raise NotImplementedError(f"{type(self).__name__}.value")

    def linearise(self, x, rows):
        """`(z, pull)`: `pull(dz, dlog_det)` is `vjp` at x, from the activations that are kept."""
        raise NotImplementedError(f"{type(self).__name__}.linearise")

    def vjp(self, x, rows, dz, dlog_det):
        """The derivative of `a(z) + <dlog_det, log_det>`.

        Args:
          x: `[n, ...]`.
          rows: `Rows`.
          dz: the derivative of a with respect to z.
          dlog_det: `[n]`.

        Returns:
          `(dx, log_det, dweights)`: as x, `[n]` and a list as `weights`, summed over the rows.
        """
        return self.linearise(after((dz, dlog_det), x), rows)[1](dz, dlog_det)

    def vijp(self, x, rows, dx, dlog_det):
        """The reverse of `vjp`: from dx, the derivative with respect to x, back to dz.

        Here by the vector-Jacobian product of the inverse. It draws the same numbers as `vjp`.

        Args:
          x, rows, dlog_det: see `vjp`.
          dx: the derivative of the whole loss with respect to x.

        Returns:
          `(z, dz, log_det, dweights)`, dz that of a.
        """
        z = self.value(x, rows)
        none = tf.nest.map_structure(tf.zeros_like, z)
        beside, *_ = self.vjp(x, rows, none, dlog_det)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            again = self.inverse(z)
        dz = tape.gradient(again, z, tf.nest.map_structure(tf.subtract, dx, beside))
        return z, dz, *self.vjp(x, rows, dz, dlog_det)[1:]

    def value_vjp(self, x, rows, dz):
        """`(dx, dweights)` of a loss of z alone, see `vjp`; a subclass may find it for less."""
        dx, _, dweights = self.vjp(x, rows, dz, _none_of(dz))
        return dx, dweights

    def value_vijp(self, x, rows, dx):
        """`(dz, dweights)` of a loss of z alone, see `vijp`; a subclass may find it for less."""
        _, dz, _, dweights = self.vijp(x, rows, dx, _none_of(dx))
        return dz, dweights

    def solve(self, z, rows):
        """`inverse(z)`, in a block in chunks, as it is evaluated; not to be differentiated.

        Args:
          z: `[n, ...]`.
          rows: `Rows`.
        """
        return self.inverse(z)

    def inverted(self):
        """The step `z -> x`, if there is one with products of its own; else None."""
        return None

    def jvp(self, x, rows, tx, tweights):
        """The Jacobian-vector product: tangents of z and of the log-determinant.

        `vjp` is linear in `(dz, dlog_det)`, and this is the transposed map, which a tape finds. So
        it is the derivative of the same draws, and of what an estimate gives as its derivative.

        Args:
          x, rows: see `vjp`.
          tx: the tangent of x, as x.
          tweights: a list as `weights`: their tangents.

        Returns:
          `(z, tz, tlog_det)`: as z twice, and `[n]`.
        """
        z = self.value(x, rows)
        dz, dlog_det = tf.nest.map_structure(tf.zeros_like, z), _none_of(z)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([dz, dlog_det])
            dx, _, dweights = self.vjp(x, rows, dz, dlog_det)
            targets = [*tf.nest.flatten(dx), *dweights]
        tangents = [*tf.nest.flatten(tx), *tweights]
        return z, *tape.gradient(targets, [dz, dlog_det], tangents,
                                 unconnected_gradients="zero")

    def bounds(self, x, rows):
        """`(z, lower, upper)`: bounds of the log-determinant `[n]`; here it is known exactly.

        Of an estimate, its mean over all draws but those of the probes lies between them.
        """
        z, pull = self.linearise(x, rows)
        log_det = pull(tf.nest.map_structure(tf.zeros_like, z), _none_of(z))[1]
        return z, log_det, log_det

    def release(self, x, rows, dlog_det):
        """`(z, pull)`: `pull(dz)` is `vjp`; keeps only the gradient of the log-determinant."""
        z, pull = self.linearise(x, rows)
        return z, lambda dz: pull(dz, dlog_det)


class Paired(Step):
    """A step made of a function that returns `(z, log_det)`, which a tape differentiates.

    Args:
      pair: `(x, seed) -> (z, log_det)`, which reads the variables.
      inverse: `z -> x`.
      variables: trainable `tf.Variable`s.
      seed: of the whole batch, see `seeds.as_seed`.
    """

    def __init__(self, pair, inverse, variables, seed):
        self._pair, self.inverse, self._variables, self._seed = pair, inverse, variables, seed
        self.weights = [tf.convert_to_tensor(v) for v in variables]

    @classmethod
    def of(cls, flow, seed):
        """The step of a flow, by its pair and the trainable variables of its layers."""
        variables = [v.value for layer in flow.layers for v in layer.trainable_variables]
        pair, inverse = flow.forward_and_log_det, flow.inverse_alone
        if getattr(flow, "context_shape", None) is not None:
            pair, inverse = _pair_of_state(pair), of_state(inverse)
        return cls(pair, inverse, variables, seed)

    def value(self, x, rows):
        return self._at(x, rows)[0]

    def linearise(self, x, rows):
        with tf.GradientTape() as tape:
            tape.watch(x)
            z, log_det = self._at(x, rows)

        def pull(dz, dlog_det):
            dx, *dweights = tape.gradient([z, log_det], [x, *self._variables], [dz, dlog_det],
                                          unconnected_gradients="zero")
            return dx, log_det, list(map(tf.convert_to_tensor, dweights))

        return z, pull

    def bounds(self, x, rows):
        z, log_det = self._at(x, rows)
        return z, log_det, log_det

    def _at(self, x, rows):
        return self._pair(x, self._part(rows))

    def _part(self, rows):
        return seeds.starting(self._seed, tf.cast(rows.start, tf.int64))


def of_state(function):
    """A function of x and `context=` as one of `(x, context)`, which returns the context, too."""
    def call(x, *args):
        x, context = x
        return function(x, *args, context=context), context

    return call


def _pair_of_state(pair):
    """`of_state` for a function that returns `(z, log_det)`."""
    def call(x, seed):
        (z, log_det), context = of_state(pair)(x, seed)
        return (z, context), log_det

    return call


class Composed(Step):
    """Steps one after the other, as one step; `steps` lists them all, nested ones too."""

    def __init__(self, members):
        self._steps = [step for member in members for step in member.steps]
        self.weights = [w for step in self._steps for w in step.weights]

    @property
    def steps(self):
        return list(self._steps)

    def value(self, x, rows):
        for step in self._steps:
            x = step.value(x, rows)
        return x

    def linearise(self, x, rows):
        return self.value(x, rows), functools.partial(self.vjp, x, rows)

    def vjp(self, x, rows, dz, dlog_det):
        return Sweep()(self._steps, x, rows, dlog_det, lambda z: ((), dz)).products

    def bounds(self, x, rows):
        lowers, uppers = [], []
        for step in self._steps:
            x, lower, upper = step.bounds(x, rows)
            lowers.append(lower)
            uppers.append(upper)
        return x, tf.add_n(lowers), tf.add_n(uppers)

    def vijp(self, x, rows, dx, dlog_det):
        log_dets, dweights = [], []
        for step in self._steps:
            x, dx, log_det, own = step.vijp(x, rows, dx, dlog_det)
            log_dets.append(log_det)
            dweights += own
        return x, dx, tf.add_n(log_dets), dweights

    def inverse(self, z):
        for step in reversed(self._steps):
            z = step.inverse(z)
        return z


def _none_of(state):
    """`[n]`, zeros: the derivative by log-determinants on which nothing depends."""
    first, *_ = tf.nest.flatten(state)
    return tf.zeros(tf.shape(first)[:1], first.dtype)


def bind(flow, seed, size, dtype):
    """The `Step` of a flow: what `flow.bind` returns; without that, by a tape (`Paired`)."""
    if hasattr(flow, "bind"):
        return flow.bind(seed, size, dtype)
    return Paired.of(flow, seed)


def say_together(cls, derived, *said, by):
    """Resets the method `derived` of a subclass that overrides one of `said`, but not `derived`.

    An optimised `derived` that it inherits would belong to the methods that it has replaced.

    Args:
      cls: the subclass, while it is being made.
      derived: name of a method that must agree with `said`.
      *said: names of methods.
      by: the class whose `derived` is right whatever `said` are.
    """
    def place(name):
        return next(i for i, c in enumerate(cls.__mro__) if name in vars(c))

    if min(map(place, said)) < place(derived):
        setattr(cls, derived, getattr(by, derived))
