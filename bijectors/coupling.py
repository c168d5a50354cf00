"""The coupling block of RealNVP, with any Keras network."""

import keras
import numpy as np
import tensorflow as tf

from bijectors.base import Flow
from tfresflow.batches import seeds
from tfresflow.checks.precision import check_float
from tfresflow.checks.rules import check, check_function
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.branch import At, warn_of_states
from tfresflow.functions.conditional import context_layers, context_shape
from tfresflow.functions.steps import Paired
from tfresflow.functions.sweep import after

__all__ = ["Coupling", "bounded", "checkerboard", "contracting", "sides"]


@keras.saving.register_keras_serializable("bijectors")
def contracting(raw):
    """`log sigmoid(raw + 2)`: the log scale of a `Coupling`, negative, -0.13 at 0.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.coupling import contracting
      >>> round(float(contracting(tf.constant(0.))), 2)
      -0.13

    References: Kingma and Dhariwal, Glow (2018), and the code published with Residual Flows.
    """
    return tf.math.log_sigmoid(raw + 2)


@keras.saving.register_keras_serializable("bijectors")
def bounded(raw):
    """`2 tanh(raw / 2)`: the log scale of a `Coupling` that stretches as it shrinks, 0 at 0.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors.coupling import bounded
      >>> round(float(bounded(tf.constant(1000.))), 2)
      2.0
    """
    return 2 * tf.tanh(raw / 2)


def checkerboard(event_shape):
    """A mask for `Coupling`: true on every other place, like the white squares of a board.

    Args:
      event_shape: `[..., C]`; all channels of a place are alike.

    Returns:
      A boolean array of that shape.

    Example:
      >>> from bijectors import checkerboard
      >>> checkerboard([2, 3, 1])[..., 0].astype(int).tolist()
      [[1, 0, 1], [0, 1, 0]]

    References: Dinh et al., Density estimation using Real NVP (2017), section 3.4.
    """
    shape = as_sizes("event_shape", event_shape)
    places = np.indices(shape[:-1]).sum(axis=0) % 2 == 0
    return np.broadcast_to(places[..., None], shape).copy()


@keras.saving.register_keras_serializable("bijectors")
class Coupling(Flow):
    """`z = (a, b exp(s(a)) + t(a))` of `x = (a, b)`: one part moves, by what the other one says.

    Forward and inverse cost one evaluation of the network each, and the log-determinant, the sum of
    s, nothing: `log |det dz/dx| = sum s(a)`. Each moves half of x at most, so it takes two or more
    in turns, one with `swap`, to move all.

    Args:
      network: a Keras layer or model of a, `[N, ...]`, that gives t and what s is made of, side by
        side on the last axis; with `log_scale=None` t alone. It is built here if it is not built
        yet. With a `layers.FiLM` in a `layers.Branch` the coupling is conditional, and its methods
        take `context=`.
      event_shape: shape of one x.
      log_scale: function that makes s of the network's output, `coupling.contracting`, `bounded` or
        one of your own; None: an additive coupling, of log-determinant 0.
      mask: boolean array of the shape of x, true where x is in a. The network then sees x with
        zeros where it is not, and what it gives has the shape of x. None: a is the first half of
        the last axis, and the network sees no more.
      swap: a and b change places.
      name: of the bijector.

    Raises:
      ValueError: if the output of the network has another shape, or nothing moves or stays.

    Warns:
      UserWarning: if a layer has a state, as Dropout and BatchNormalization: it works as in
        inference.

    Example:
      >>> import keras
      >>> import tensorflow as tf
      >>> from bijectors import Coupling
      >>> twice = keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(2.))
      >>> b = Coupling(twice, [2], log_scale=None)                # z = (a, b + 2 a)
      >>> b.forward([[1., 10.]]).numpy().tolist()
      [[1.0, 12.0]]
      >>> b.inverse([[1., 12.]]).numpy().tolist()
      [[1.0, 10.0]]

    References: Dinh et al., Density estimation using Real NVP (2017); Gomez et al., The Reversible
    Residual Network (2017).
    """

    def __init__(self, network, event_shape, log_scale=contracting, mask=None, swap=False,
                 name=None):
        event_shape = as_sizes("event_shape", event_shape)
        mask = None if mask is None else np.asarray(mask).tolist()
        parameters = dict(locals())
        check(isinstance(network, keras.layers.Layer), "network", "be a Keras layer", network)
        if log_scale is not None:
            check_function("log_scale", log_scale, "be a function of what the network gives", 1)
        self._mask, self._swaps = _mask(mask, swap, event_shape), bool(swap)
        self._sizes = _halves(event_shape[-1])
        of_context = context_shape("network", context_layers(network))
        self._build(network, event_shape, log_scale)
        super().__init__(event_shape, layers=[network], parameters=parameters,
                         context_shape=of_context, name=name)
        warn_of_states("network", network)
        self.network, self.log_scale = network, log_scale

    def _build(self, network, event_shape, log_scale):
        inputs, moved = sides(event_shape[-1], self._swaps, self._mask)
        check(inputs and moved, "event_shape", "have two or more entries on its last axis, or a "
              "`mask` be given", event_shape)
        if not network.built:
            network.build((None, *event_shape[:-1], inputs))
        check_float(network)
        want = (*event_shape[:-1], moved * (1 if log_scale is None else 2))
        got = tuple(network.compute_output_shape((None, *event_shape[:-1], inputs))[1:])
        check(got == want, "network", f"give [N, {', '.join(map(str, want))}] for an input of "
              f"{inputs} on the last axis", got)

    def forward_and_log_det(self, x, seed=None, *, context=None):
        stays, moves = self.parts(x)
        shift, log_scale = self.shift_and_log_scale(stays, context)
        return self.joined(stays, moves * tf.exp(log_scale) + shift), _total(log_scale)

    def inverse_and_log_det(self, z, seed=None, *, context=None):
        stays, moves = self.parts(z)
        shift, log_scale = self.shift_and_log_scale(stays, context)
        return self.joined(stays, self.move((moves - shift) * tf.exp(-log_scale))), -_total(
            log_scale)

    def bind(self, seed=None, size=None, dtype=None):
        return _Step.of(self, seeds.as_seed(seed))

    def parts(self, x):
        """`(a, b)` of x; with a mask both of the shape of x, zero where the other is."""
        if self._mask is None:
            first, second = tf.split(x, self._sizes, axis=-1)
            return (second, first) if self._swaps else (first, second)
        return self.stay(x), self.move(x)

    def joined(self, stays, moves):
        """x of `(a, b)`."""
        if self._mask is not None:
            return stays + moves
        return tf.concat([moves, stays] if self._swaps else [stays, moves], axis=-1)

    def stay(self, stays):
        """Zero where b is, if there is a mask."""
        return stays if self._mask is None else stays * tf.constant(self._mask, stays.dtype)

    def move(self, moves):
        """Zero where a is, if there is a mask."""
        return moves if self._mask is None else moves * tf.constant(1 - self._mask, moves.dtype)

    def shift_and_log_scale(self, stays, context=None):
        """`(t, s)`, each as b."""
        network = self.network if context is None else At(self.network, context)
        raw = network(stays)
        if self.log_scale is None:
            return self.move(raw), tf.zeros_like(raw)
        shift, raw = tf.split(raw, 2, axis=-1)
        return self.move(shift), self.move(self.log_scale(raw))


class _Step(Paired):
    """A coupling as a step; one evaluation of the network for each product."""

    @classmethod
    def of(cls, flow, seed):
        step = super().of(flow, seed)
        step.flow = flow
        return step

    def vijp(self, x, rows, dx, dlog_det):
        flow, conditional = self.flow, self.flow.context_shape is not None
        x, dlog_det = after(dx, [x, dlog_det])
        (x, *context), (dx, *dcontext) = (x, dx) if conditional else ([x], [dx])
        (stays, moves), (dstays, dmoves) = flow.parts(x), flow.parts(dx)
        with tf.GradientTape() as tape:
            tape.watch([stays, *context])
            shift, log_scale = flow.shift_and_log_scale(stays, *context)
        dmoved = dmoves * tf.exp(-log_scale)
        each = tf.reshape(dlog_det, [-1] + [1] * (x.shape.rank - 1))
        of_stays, *found = tape.gradient(
            [shift, log_scale], [stays, *context, *self._variables],
            [dmoved, dmoves * moves + each], unconnected_gradients="zero")
        z = flow.joined(stays, moves * tf.exp(log_scale) + shift)
        dz = flow.joined(dstays - flow.stay(of_stays), dmoved)
        dweights = list(map(tf.convert_to_tensor, found[len(context):]))
        if conditional:
            z, dz = (z, *context), (dz, dcontext[0] - found[0])
        return z, dz, _total(log_scale), dweights


def sides(channels, swap=False, mask=None):
    """Numbers on the last axis: of what the network of a `Coupling` sees, and of what it moves."""
    if mask is not None:
        return [channels, channels]
    return _halves(channels)[::-1] if swap else _halves(channels)


def _halves(channels):
    return [channels - channels // 2, channels // 2]


def _total(log_scale):
    """The sum over all entries of an example, `[N]`."""
    return tf.reduce_sum(log_scale, axis=list(range(1, log_scale.shape.rank)))


def _mask(mask, swap, event_shape):
    """As numbers 0 and 1, or None."""
    if mask is None:
        return None
    mask = np.asarray(mask)
    check(mask.dtype == bool and mask.shape == event_shape, "mask",
          f"be a boolean array of shape {event_shape}", f"{mask.dtype} {mask.shape}")
    check(mask.any() and not mask.all(), "mask", "be true for a part of x alone", mask.mean())
    return (mask != bool(swap)).astype(int)
