"""Where each entry of the reference's state dicts is in a flow of ours."""

import dataclasses
import math
import typing

import numpy as np
import tensorflow as tf

from bijectors.actnorm import ActNorm
from bijectors.chain import Chain
from bijectors.coupling import Coupling
from bijectors.factor_out import FactorOut
from bijectors.flatten import Flatten
from bijectors.flows.reference_orders import to_ours, to_theirs
from bijectors.residual import InvertibleResidual
from bijectors.squeeze import Squeeze
from tfresflow.layers.activations import LipSwish
from tfresflow.layers.induced_norm import InducedNorm

__all__ = ["Entry", "entries", "entries_of_block"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of a state dict, and the weight of the flow that it is.

    Attributes:
      shape: of the tensor.
      weight: the Keras variable; None for a buffer that has no influence on what a flow computes.
      view, axes: the tensor, reshaped to `view` and transposed by `axes`, is in the order of
        `weight`.
      is_parameter: a parameter of the reference, of which it keeps an average; else a buffer.
      default: a function that gives the value, with its type, that a buffer has without another.
      vector_of: the layer of which it is a singular vector.
      is_order: the tensor is a learned order, of which the weight is another function.
      halved: the halves of its first axis change places.
    """

    shape: tuple
    weight: typing.Any = None
    view: tuple = ()
    axes: tuple = ()
    is_parameter: bool = True
    default: typing.Any = None
    vector_of: typing.Any = None
    is_order: bool = False
    halved: bool = False

    def ours(self, value):
        """A tensor of the reference as the value of `weight`; an array that may be a view."""
        value = to_ours(value) if self.is_order else value
        value = _changed_places(value) if self.halved else value
        value = value.reshape(self.view).transpose(self.axes) if self.view else value
        return value.reshape(self.weight.shape) if self.vector_of is None else _placed(
            value, self.weight.shape)

    def moved(self, value):
        """Of a number for each of the tensor's, as a moment of its gradient: the places alone."""
        return dataclasses.replace(self, is_order=False).ours(value)

    def theirs(self, value):
        """A value of `weight` as the reference has it, C-contiguous."""
        value = to_theirs(value) if self.is_order else np.asarray(value)
        if self.vector_of is not None:
            value = _chosen(self.vector_of, value, self.shape)
        if self.view:
            value = value.reshape([self.view[axis] for axis in self.axes])
            value = value.transpose(np.argsort(self.axes))
        value = _changed_places(value) if self.halved else value
        return np.ascontiguousarray(value).reshape(self.shape)


def entries(flow, squeeze_first=False, n_samples=1):
    """`{name: Entry}`, in the reference's order, of an `image_flow` or a flow of vectors.

    Args:
      flow: a `Chain` of what the reference's models have.
      squeeze_first: the first squeeze stands before the model, and has no number.
      n_samples: draws of the number of terms, whose last ones a block keeps.
    """
    of_images = len(flow.event_shape) == 3
    found, scale, place = {}, 0, 0
    for step in _steps(flow):
        if isinstance(step, Squeeze) and squeeze_first:
            squeeze_first = False
        elif not isinstance(step, (FactorOut, Flatten)):
            prefix = f"transforms.{scale}.chain.{place}." if of_images else f"chain.{place}."
            wrapped = of_images and len(step.event_shape) == 1
            found |= {prefix + name: entry for name, entry in _of_step(
                step, wrapped, n_samples).items()}
            place += 1
            if isinstance(step, Squeeze):
                scale, place = scale + 1, 0
    return found


def _steps(flow):
    """All bijectors, in the order in which data meets them."""
    for step in reversed(flow.bijectors):
        if isinstance(step, Chain):
            yield from _steps(step)
            continue
        yield step
        if isinstance(step, FactorOut):
            yield from _steps(step.inner)


def _of_step(step, wrapped, n_samples):
    """Entries of a bijector; wrapped: it is of vectors that the reference makes of images."""
    if isinstance(step, ActNorm):
        prefix = "fc_module." * (wrapped or step.per_element)
        return {prefix + name: entry for name, entry in _of_actnorm(step).items()}
    prefix = "nnet.nnet." if wrapped else "nnet."
    if isinstance(step, Coupling):
        return _of_coupling(step, prefix)
    if not isinstance(step, InvertibleResidual):
        return {}
    return entries_of_block(step, n_samples, prefix)


def _of_coupling(step, prefix):
    """Entries of a coupling's network, which gives the scale first there, and the shift here."""
    found = {}
    *hidden, last = step.network.layers
    for i, layer in enumerate([*hidden, last]):
        own = {"beta": Entry((1,), layer.raw_beta)} if isinstance(layer, LipSwish) else (
            _of_linear(layer, halved=layer is last) if layer.weights else {})
        found |= {f"{prefix}{i}.{name}": entry for name, entry in own.items()}
    return found


def entries_of_block(step, n_samples, prefix="nnet."):
    """`{name: Entry}` of a residual block, those of its branch with a prefix."""
    found = {"geom_p": _kept(np.float64(0.0), is_parameter=True),
             "lamb": _kept(np.float32(2.0), is_parameter=True),
             "last_n_samples": _kept(np.zeros(n_samples, np.float32)),
             "last_firmom": _kept(np.zeros(1, np.float32)),
             "last_secmom": _kept(np.zeros(1, np.float32))}
    for i, layer in enumerate(step.branch.layers):
        found |= {f"{prefix}{i}.{name}": entry for name, entry in _of_layer(
            layer, step.event_shape[:-1]).items()}
    return found


def _of_actnorm(step):
    log_scale, shift = step.weights_of_affine()
    shape = (math.prod(log_scale.shape),)
    layout = _channels_first(log_scale.shape) if step.per_element else {}
    return {"weight": Entry(shape, log_scale, **layout), "bias": Entry(shape, shift, **layout),
            "initialized": _kept(np.int64(1))}


def _of_layer(layer, space):
    """Entries of a layer of a branch, on vectors or on images of the given space."""
    if isinstance(layer, LipSwish):
        return {"beta": Entry((1,), layer.raw_beta)}
    if not isinstance(layer, InducedNorm):
        return {}
    kernel = tuple(layer.kernel.shape)[:-2]
    found = {} if None not in layer.fixed_orders else {
        name: Entry((), order.source.raw_codomain, is_order=True)
        for name, order in (("domain", layer.domain_order), ("codomain", layer.codomain_order))}
    found |= _of_linear(layer)
    if kernel:
        found["initialized"] = _kept(np.int64(1))
        found["spatial_dims"] = _kept(np.array(space, np.float32))
    found["scale"] = Entry((), is_parameter=False, default=lambda: _sigma(layer))
    return found | _of_vectors(layer, () if math.prod(kernel) == 1 else space)


def _of_linear(layer, halved=False):
    """Kernel and bias of a dense layer or a convolution."""
    *kernel, inputs, outputs = layer.kernel.shape
    shape, axes = (outputs, inputs, *kernel), (*range(2, 2 + len(kernel)), 1, 0)
    return {"weight": Entry(shape, layer.kernel, shape, axes, halved=halved),
            "bias": Entry((outputs,), layer.bias, halved=halved)}


def _changed_places(value):
    first, second = np.split(value, 2)
    return np.concatenate([second, first])


def _of_vectors(layer, space):
    """The vectors u and v of a norm; those of one in closed form are not ours."""
    *_, inputs, outputs = layer.kernel.shape
    found = {}
    for name, channels in (("u", outputs), ("v", inputs)):
        shape = (math.prod(space) * channels,)
        layout = _channels_first((*space, channels)) if space else {}
        found[name] = Entry(shape, getattr(layer, name), **layout, is_parameter=False,
                            vector_of=layer) if layer.vectors else (
            _kept(np.full(shape, shape[0] ** -0.5, np.float32)))
    return found


def _channels_first(shape):
    """The view and axes of a vector, `[C, ...]` in the reference, that is `[..., C]` here."""
    rank = len(shape)
    return {"view": (shape[-1], *shape[:-1]), "axes": (*range(1, rank), 0)}


def _kept(value, is_parameter=False):
    value = np.asarray(value)
    return Entry(value.shape, is_parameter=is_parameter, default=lambda: value)


def _sigma(layer):
    state = layer.norm.read(layer.norm_state())
    return np.asarray(layer.norm.sigma(layer.function, state), np.float32)


def _placed(vector, shape):
    """`vector` as each of the `shape[0]` vectors that a norm keeps.

    Of a kernel of one pixel the reference's vectors are of one pixel, too. Where the norm is that
    of an image, of several, sigma is the same with the others 0.
    """
    if vector.ndim > 1 or len(shape) == 2:
        return np.broadcast_to(vector, shape)
    found = np.zeros(shape, vector.dtype)
    found[(slice(None), *[0] * (len(shape) - 2))] = vector
    return found


def _chosen(layer, vectors, shape):
    """Of several vectors the one of the largest product; of one of an image, perhaps a pixel."""
    best = 0
    if len(vectors) > 1:
        product = layer.u * layer.function.product(tf.convert_to_tensor(layer.kernel), layer.v)
        best = int(np.argmax(np.sum(product, axis=tuple(range(1, vectors.ndim)))))
    vector = vectors[best]
    if vector.size > math.prod(shape):
        pixels = vector.reshape(-1, *shape)
        vector = pixels[np.argmax(np.sum(pixels ** 2, axis=1))]
    return vector
