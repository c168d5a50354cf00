"""Models of the package normflows, by their state dicts."""

import itertools

import numpy as np

from bijectors.actnorm import ActNorm
from bijectors.chain import Chain
from bijectors.flows.blocks import Blocks
from bijectors.flows.published import array_of, check_entries, load_entries
from bijectors.flows.reference_entries import entries_of_block
from tfresflow import layers
from tfresflow.layers.induced_norm import vectors_given

__all__ = ["from_normflows"]


def from_normflows(state_dict, coeff=0.97, **kwargs):
    """The flow of a `normflows.NormalizingFlow` of `Residual` blocks and `ActNorm`s.

    The blocks are of `LipschitzMLP`s, or of `LipschitzCNN`s for images of one size and number of
    channels, which are `[N, C, H, W]` there and `[N, H, W, C]` here; in the direction of their
    default, `reverse=True`. The state dict must be of a model that has seen images. The chain
    goes from data to latents, so begins with the last of the model's flows. A Gaussian base with a
    mean and scales of its own becomes an ActNorm at the end, so that the base is the standard one.

    Args:
      state_dict: `{name: array}`, `model.state_dict()` with tensors as arrays.
      coeff: `lipschitz_const` of the networks, which the state dict does not say.
      **kwargs: of the blocks: log_det, solver, adjoint, power_iteration, dtype.

    Returns:
      A `Chain` from `[N, D]` to `[N, D]`, or from `[N, H, W, C]` to `[N, H, W, C]`.

    Raises:
      ValueError: if an entry has no place in such a model, or one is missing; it names the entry.

    Example:
      >>> import numpy as np
      >>> from bijectors.flows import from_normflows
      >>> flow = from_normflows({"flows.0.s": np.zeros([1, 2]), "flows.0.t": np.ones([1, 2]),
      ...                        "flows.0.data_dep_init_done": np.ones([])})
      >>> flow.forward(np.float32([[1., 3.]])).numpy().tolist()          # (x - t) exp(-s)
      [[0.0, 2.0]]

    References: Stimper et al., normflows: a PyTorch package for normalizing flows (2023).
    """
    blocks = Blocks(coeff=coeff, act=layers.LipSwish, preact=True, certified=False, **kwargs)
    parts, space = _parts(state_dict), _space(state_dict)
    steps, found, size = [], {}, None
    with vectors_given():
        for prefix in sorted(parts, key=_place, reverse=True):
            own = {name: state_dict[prefix + name] for name in parts[prefix]}
            if "s" in own or "loc" in own:
                step = _affine(own, prefix, "s" if "s" in own else "log_scale", space, kwargs)
            else:
                step, entries = _block(own, prefix, blocks, space)
                found |= entries
            if size not in (None, step.event_shape):
                raise ValueError(f"`state_dict` must have blocks of one size. Received: {size} "
                                 f"and {step.event_shape} in {prefix}*")
            size = step.event_shape
            steps.append(step)
    if not steps:
        raise ValueError("`state_dict` must have entries flows.0.*. Received: "
                         f"{', '.join(itertools.islice(state_dict, 5))}")
    load_entries(found, state_dict)
    return Chain(steps[::-1])


def _parts(state_dict):
    """`{prefix: names after it}` of each flow, and of the base."""
    parts = {}
    for name in state_dict:
        head, _, rest = name.partition(".")
        place, _, after = rest.partition(".")
        if head == "flows" and place.isdecimal() and after:
            parts.setdefault(f"flows.{place}.", []).append(after)
        elif name in ("q0.loc", "q0.log_scale"):
            parts.setdefault("q0.", []).append(rest)
        else:
            raise ValueError("`state_dict` has an entry that has no place in a flow of residual "
                             f"blocks: {name}")
    return parts


def _place(prefix):
    """The base comes last, as data meets them."""
    return -1 if prefix == "q0." else int(prefix.split(".")[1])


def _space(state_dict):
    """`(H, W)` of the images; `()` of vectors."""
    for name, value in state_dict.items():
        if name.endswith(".spatial_dims"):
            return tuple(map(int, np.ravel(array_of(state_dict, name))))
    return ()


def _affine(own, prefix, scale, space, kwargs):
    """`(x - t) exp(-s)` as an ActNorm."""
    shift = "t" if scale == "s" else "loc"
    for name in {scale, shift} - set(own):
        raise ValueError(f"`state_dict` must have {prefix}{name}. There is none")
    for name in set(own) - {scale, shift, "data_dep_init_done"}:
        raise ValueError(f"`state_dict` has an entry that has no place: {prefix}{name}")
    s, t = (array_of(own, name) for name in (scale, shift))
    per_element = bool(space) and s.shape[2:] == space
    want = (1, s.shape[1], *(space if per_element else [1] * len(space))) if s.ndim > 1 else None
    if s.shape != t.shape or s.shape != want:
        wanted = "(1, C, 1, 1) or (1, C, H, W), for images" if space else "(1, D), for vectors"
        raise ValueError(f"`state_dict` must have {prefix}{scale} of shape {wanted}, and {shift} "
                         f"like it. Received: {s.shape} and {t.shape}")
    step = ActNorm((*space, s.shape[1]), per_element=per_element, dtype=kwargs.get("dtype"))
    for weight, value in zip(step.weights_of_affine(), (s, t)):
        weight.assign(np.reshape(-np.moveaxis(value[0], 0, -1), weight.shape))
    return step


def _block(own, prefix, blocks, space):
    """A residual block, and its entries."""
    weights = [f"iresblock.nnet.net.{i}.weight" for i in range(1, len(own) + 1, 2)]
    shapes = [np.shape(own[name]) for name in weights if name in own]
    if not shapes or any(len(shape) != (4 if space else 2) for shape in shapes):
        raise ValueError(f"`state_dict` must have a Lipschitz{'CNN' if space else 'MLP'}, {prefix}"
                         f"{weights[0]} and so on, or s and t. Received: {prefix}{next(iter(own))}")
    hidden = [outputs for outputs, *_ in shapes[:-1]]
    if space:
        _check_kernels(shapes, prefix)
        step = blocks.conv((*space, shapes[0][1]), hidden, [shape[2] for shape in shapes])
    else:
        step = blocks.dense((shapes[0][1],), hidden)
    n_samples = np.size(own.get("iresblock.last_n_samples", 0))
    entries = {f"iresblock.{name.replace('nnet.', 'nnet.net.')}": entry
               for name, entry in entries_of_block(step, n_samples).items()}
    check_entries(own, entries, "state_dict", prefix)
    return step, {prefix + name: entry for name, entry in entries.items()}


def _check_kernels(shapes, prefix):
    for *_, height, width in shapes:
        if height != width or height % 2 == 0:
            raise ValueError(f"`state_dict` must have kernels with odd, equal sides in {prefix}*. "
                             f"Received: {height}x{width}")
