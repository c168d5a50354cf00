"""From whole numbers to the unit interval: noise within each level, uniform or learned."""

import math

import keras
import tensorflow as tf

from bijectors.base import Flow, batch_shape
from bijectors.start import parts, some
from tfresflow.batches import seeds
from tfresflow.checks.rules import check, is_whole
from tfresflow.checks.sizes import as_sizes
from tfresflow.functions.steps import Composed, Rows, Step

__all__ = ["Dequantize", "in_bins"]

_DRAWS = 2.0 ** -23  # between the numbers that noise may be: all are inside of (0, 1) in float32


@keras.saving.register_keras_serializable("bijectors")
class Dequantize(Flow):
    """`z = (x + u) / 2^nbits`, x levels in {0, ..., 2^nbits - 1}, u ~ q(u | x) in (0, 1).

    Put it before a flow of images in [0, 1], as the last of a `Chain`. It is no bijection: forward
    draws u, inverse drops it. Its log-determinant is `-log q(u | x) - D nbits log 2`, D entries of
    x, so that the log-density of the chain is, on average over u, a lower bound:

        log P(x) >= E_{u ~ q(u | x)} [log p((x + u) / 2^nbits) - D nbits log 2 - log q(u | x)]

    q is what a conditional flow makes of uniform noise, given `x / 2^nbits`; without one, or where
    that flow is the identity, u is uniform. The flow is trained with all others, through u, too. It
    costs one evaluation a draw; only `inverse_and_log_det` inverts it.

    Where x is no level, P is 0: the log-determinant is -inf, and `initialize` raises an error.

    Args:
      noise_flow: a conditional `Flow` from (0, 1)^D to (0, 1)^D whose context is of the shape of x,
        see `flows.dequantizer`; None: uniform noise.
      event_shape: shape of one x.
      nbits: so many bits each level has, 1 to 16.
      name: of the bijector.

    Raises:
      ValueError: if an argument is not as described; in `initialize`, if x is not all levels.

    Example:
      >>> import tensorflow as tf
      >>> from bijectors import ActNorm, Chain, Dequantize
      >>> from tfresflow import FlowModel
      >>> levels = tf.constant([[0, 255], [3, 16]], tf.uint8)
      >>> b = Dequantize(None, [2], nbits=8)
      >>> z = b.forward(levels, seed=0)
      >>> b.inverse(z).numpy().tolist()
      [[0.0, 255.0], [3.0, 16.0]]
      >>> model = FlowModel(Chain([ActNorm([2]), b]))             # of levels: bits, without `nbits`
      >>> model.bits_per_dim(levels, seed=0).shape
      TensorShape([2])

    References: Ho et al., Flow++ (2019), section 3.1; Nielsen et al., SurVAE Flows (2020).
    """

    def __init__(self, noise_flow, event_shape, nbits=8, name=None):
        event_shape = as_sizes("event_shape", event_shape)
        parameters = dict(locals())
        check(is_whole(nbits) and 1 <= nbits <= 16, "nbits", "be in 1..16", nbits)
        if noise_flow is not None:
            shapes = [getattr(noise_flow, name, None) for name in ("event_shape", "context_shape")]
            check(shapes == [event_shape] * 2 and noise_flow.latent_shape(event_shape) ==
                  event_shape, "noise_flow", f"map noise of shape {event_shape} to such noise at "
                  "contexts of that shape, or be None", noise_flow)
        super().__init__(event_shape, layers=[] if noise_flow is None else noise_flow.layers,
                         parameters=parameters, name=name)
        self.noise_flow, self.nbits = noise_flow, int(nbits)

    def forward_and_log_det(self, x, seed=None):
        for_noise, for_flow = seeds.split(seeds.as_seed(seed), 2)
        (u, low), log_det = self._draw(x, for_noise), self._beyond(x)
        if self.noise_flow is not None:
            u, own = self.noise_flow.forward_and_log_det(u, for_flow, context=low)
            log_det += own
        return in_bins(low, u, self.nbits), log_det - self._log_scale

    def bind(self, seed=None, size=None, dtype=None):
        for_noise, for_flow = seeds.split(seeds.as_seed(seed), 2)
        inner = [] if self.noise_flow is None else [
            self.noise_flow.bind(for_flow, size, dtype or self._float)]
        return Composed([_Draw(self, for_noise), *inner, _Place(self)])

    def inverse_and_log_det(self, z, seed=None):
        u, low = self._apart(z)
        log_det = tf.fill(batch_shape(z), tf.constant(self._log_scale, z.dtype))
        if self.noise_flow is not None:
            _, for_flow = seeds.split(seeds.as_seed(seed), 2)
            log_det += self.noise_flow.inverse_and_log_det(u, for_flow, context=low)[1]
        return self._levels(low), log_det

    def inverse_alone(self, z):
        return self._levels(self._apart(z)[1])

    def with_log_det(self, log_det):
        if self.noise_flow is None:
            return self
        return Dequantize(self.noise_flow.with_log_det(log_det), self.event_shape, self.nbits,
                          self.name)

    def start(self, x, weights, context=None):
        # The noise's own layers start as they are: near the identity, where noise is uniform.
        self.check_support(x)
        x, weights, context = some(x, weights, context)
        step = self.bind(0, None, x.dtype)
        z = [step.value(part, Rows(places)) for part, places in parts(x, tf.range(len(x)))]
        return tf.concat(z, axis=0), weights, context

    def check_support(self, x):
        outside = self._outside(x).numpy()
        if outside.any():
            raise ValueError(
                f"`x` must be whole numbers from 0 to {2 ** self.nbits - 1}, levels of {self.nbits}"
                f" bits without noise. Received: {x.numpy()[outside][0]:g} in row "
                f"{outside.nonzero()[0][0]}")

    def named_layers(self):
        return {self.name: []} if self.noise_flow is None else {
            f"{self.name}/{name}": own for name, own in self.noise_flow.named_layers().items()}

    def branches(self):
        return {} if self.noise_flow is None else {
            f"{self.name}/{name}": g for name, g in self.noise_flow.branches().items()}

    @property
    def _log_scale(self):
        """`D nbits log 2`: nats between densities on the scale of z and on that of the levels."""
        return math.prod(self.event_shape) * self.nbits * math.log(2)

    def _draw(self, x, seed):
        """`(uniform noise, x / 2^nbits)`: both divisions by powers of two are exact."""
        n = tf.shape(x)[0] if x.shape[0] is None else x.shape[0]
        number = seeds.bits(seeds.starting(seed, 0), [n, *self.event_shape]) & (2 ** 23 - 1)
        return (tf.cast(number, x.dtype) + 0.5) * _DRAWS, x * 2.0 ** -self.nbits

    def _levels(self, low):
        return low * 2.0 ** self.nbits

    def _apart(self, z):
        """`(u, x / 2^nbits)` of z, both of a value that a draw may have."""
        scaled = z * 2.0 ** self.nbits
        levels = tf.clip_by_value(tf.floor(scaled), 0, 2.0 ** self.nbits - 1)
        u = tf.clip_by_value(scaled - levels, _DRAWS / 2, 1 - _DRAWS / 2)
        return u, levels * 2.0 ** -self.nbits

    def _outside(self, x):
        return (x != tf.floor(x)) | (x < 0) | (x >= 2 ** self.nbits)

    def _beyond(self, x):
        """`[N]`: -inf where x is not all levels, else 0."""
        outside = tf.reduce_any(self._outside(x), axis=range(1, x.shape.rank))
        return tf.where(outside, tf.constant(-math.inf, x.dtype), 0)


def in_bins(low, u, nbits):
    """`low + u / 2^nbits`, kept below `low + 1 / 2^nbits`, where rounding may put a u near 1.

    Args:
      low: `level / 2^nbits`, any shape.
      u: in [0, 1], the same shape.
      nbits: of the levels.
    """
    z = low + u * 2.0 ** -nbits
    top = tf.stop_gradient(low) + 2.0 ** -nbits
    most = tf.math.nextafter(top, tf.zeros_like(top))
    return z + tf.stop_gradient(tf.minimum(z, most) - z)


class _Draw(Step):
    """`x -> (uniform noise, x / 2^nbits)`."""

    weights, is_light, is_bijection = (), True, False

    def __init__(self, flow, seed):
        self._flow, self._seed = flow, seed

    def value(self, x, rows):
        return self._flow._draw(x, seeds.starting(self._seed, tf.cast(rows.start, tf.int64)))

    def linearise(self, x, rows):
        log_det = self._flow._beyond(x)
        return self.value(x, rows), lambda dz, dlog_det: (
            dz[1] * 2.0 ** -self._flow.nbits, log_det, [])

    def vijp(self, x, rows, dx, dlog_det):
        raise NotImplementedError("Dequantize has no vijp: from the derivative with respect to x, "
                                  "that with respect to the noise does not follow")

    def inverse(self, z):
        return self._flow._levels(z[1])


class _Place(Step):
    """`(u, x / 2^nbits) -> z`."""

    weights, is_light = (), True

    def __init__(self, flow):
        self._flow = flow

    def value(self, x, rows):
        u, low = x
        return in_bins(low, u, self._flow.nbits)

    def linearise(self, x, rows):
        z = self.value(x, rows)
        log_det = tf.fill(batch_shape(z), tf.constant(-self._flow._log_scale, z.dtype))
        return z, lambda dz, dlog_det: ((dz * 2.0 ** -self._flow.nbits, dz), log_det, [])

    def inverse(self, z):
        return self._flow._apart(z)
