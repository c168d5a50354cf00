"""Models of the PyTorch reference, rtqichen/residual-flows, from its state dicts and back.

What is laid out in another way there is translated: kernels `[out, in, h, w]`, vectors of images
with the channels first, the weight of an ActNorm, which is its log scale, and learned orders.
"""

import numpy as np

from bijectors.flows.reference_args import architecture, read_args
from bijectors.flows.reference_entries import entries
from tfresflow.layers.induced_norm import vectors_given

__all__ = ["from_reference", "load_reference", "reference_average", "to_reference"]


def from_reference(state_dict, args, **kwargs):
    """The flow of a state dict of the reference, with all of its weights and norms.

    Nothing is trained, searched or iterated: with the norms that the state dict holds, the flow
    computes what the reference does. `bijectors.norm_report` and `FlowModel.refresh_norms` tell
    whether they have converged.

    Args:
      state_dict: `{name: array}`, of `train_img.py` or `train_toy.py`.
      args: the script's arguments, an `argparse.Namespace` or a dictionary.
      **kwargs: of `image_flow` or `toy_flow`: log_det, solver, adjoint, seed, dtype.

    Returns:
      A `Chain` from `[N, H, W, C]`, or `[N, 2]`, to `[N, D]`, in the reference's order of z.

    Raises:
      ValueError: if there is no such model here, or an entry has no place in it, or a place no
        entry, or one of another shape; it names the first.

    Example:
      >>> import numpy as np
      >>> from bijectors.flows import from_reference, to_reference
      >>> args = {"dims": "8", "nblocks": 1, "vnorms": "222", "act": "elu"}
      >>> block = {"geom_p": 0., "lamb": 2., "last_n_samples": [0], "last_firmom": [0],
      ...          "last_secmom": [0]}
      >>> linear = {"weight": np.ones([8, 2]), "bias": np.zeros(8), "scale": 4.,
      ...           "u": np.full(8, 8 ** -0.5), "v": np.full(2, 2 ** -0.5)}
      >>> state_dict = {f"chain.0.{name}": np.float32(value) for name, value in {
      ...     **block, **{f"nnet.1.{name}": value for name, value in linear.items()},
      ...     **{f"nnet.3.{name}": np.transpose(value) for name, value in linear.items()},
      ...     "nnet.3.bias": [0, 0], "nnet.3.u": linear["v"], "nnet.3.v": linear["u"]}.items()}
      >>> flow = from_reference(state_dict, args)
      >>> flow.forward(np.float32([[1, 1]])).numpy().round(2)       # 1 + 0.9^2
      array([[1.81, 1.81]], dtype=float32)
      >>> back = to_reference(flow, args, state_dict)
      >>> all(back[name].tobytes() == state_dict[name].tobytes() for name in state_dict)
      True

    References: Chen et al., Residual Flows (2019), and the code published with it.
    """
    with vectors_given():
        flow = architecture(read_args(args), **kwargs)
    load_reference(flow, state_dict, args)
    return flow


def load_reference(flow, state_dict, args):
    """Gives a flow the weights and norms of a state dict of the reference.

    Args:
      flow: as `from_reference` builds it.
      state_dict, args: see `from_reference`.

    Raises:
      ValueError: see `from_reference`; the flow is as it was before.

    Example:
      >>> import numpy as np
      >>> from bijectors.flows import load_reference, toy_flow
      >>> flow = toy_flow(nblocks=1, dims=8, preact=True, actnorm=False)
      >>> load_reference(flow, {}, {"dims": "8", "nblocks": 1})
      Traceback (most recent call last):
      ValueError: `state_dict` must have chain.0.geom_p of shape (). There is none
    """
    found = _entries(flow, args)
    check_entries(state_dict, found)
    load_entries(found, state_dict)


def load_entries(found, state_dict):
    """Assigns the tensors of a state dict to the weights of `{name: Entry}`."""
    us = {}
    for name, entry in found.items():
        if entry.weight is None:
            continue
        value = entry.ours(array_of(state_dict, name))
        if entry.vector_of is None:
            entry.weight.assign(value)
        elif entry.vector_of in us:  # v, after the kernel and u
            entry.vector_of.set_vectors(us.pop(entry.vector_of), value)
        else:
            us[entry.vector_of] = value


def to_reference(flow, args, kept=None):
    """The state dict that the reference has for a flow: `from_reference` the other way around.

    Args:
      flow: as `from_reference` builds it.
      args: see `from_reference`.
      kept: a state dict from which to take what has no place in a flow, as the moments of the
        last estimate; with that of an import whose weights have not changed since, the result is
        the same to the byte. None: what the reference begins with.

    Returns:
      `{name: array}`, in its order.

    Raises:
      ValueError: if `kept` is not for this flow.

    Example:
      >>> from bijectors.flows import to_reference, toy_flow
      >>> flow = toy_flow(nblocks=1, dims=8, preact=True, actnorm=False)
      >>> found = to_reference(flow, {"dims": "8", "nblocks": 1})
      >>> found["chain.0.nnet.1.weight"].shape, found["chain.0.nnet.1.u"].shape
      ((8, 2), (8,))
    """
    found = _entries(flow, args)
    if kept is not None:
        buffers = {name: entry for name, entry in found.items() if entry.weight is None}
        known = {name: value for name, value in kept.items()
                 if name not in found or name in buffers}
        check_entries(known, buffers, "kept")
    return {name: _theirs(name, entry, kept) for name, entry in found.items()}


def reference_average(flow, args, average):
    """Averages of a flow's weights, as the reference keeps them, in the order of the weights.

    Args:
      flow, args: see `load_reference`.
      average: `{name: array}`, the reference's `shadow_params`.

    Returns:
      `[(weight, value)]`, for each trained Keras variable of the flow.

    Raises:
      ValueError: see `from_reference`.

    Example:
      >>> from bijectors.flows import reference_average, toy_flow
      >>> flow = toy_flow(nblocks=1, dims=8, preact=True, actnorm=False)
      >>> reference_average(flow, {"dims": "8", "nblocks": 1}, {})
      Traceback (most recent call last):
      ValueError: `average` must have chain.0.geom_p of shape (). There is none
    """
    found = parameters(flow, args)
    check_entries(average, found, "average")
    return [(entry.weight, entry.ours(array_of(average, name)))
            for name, entry in found.items() if entry.weight is not None]


def parameters(flow, args):
    """`{name: Entry}` of the parameters, without second names of the same one."""
    seen, found = set(), {}
    for name, entry in _entries(flow, args).items():
        if entry.is_parameter and id(entry.weight) not in seen:
            found[name] = entry
            seen |= {id(entry.weight)} - {id(None)}
    return found


def kept_names(flow, args):
    """Names of the entries to be kept for `to_reference`: the buffers, and the learned orders."""
    return [name for name, entry in _entries(flow, args).items()
            if entry.weight is None or entry.is_order]


def _entries(flow, args):
    args = read_args(args)
    return entries(flow, args.get("squeeze_first", False), args["n_samples"])


def check_entries(given, found, what="state_dict", prefix=""):
    """Raises unless `given` has all entries of `found`, of their shapes, and no other.

    Args:
      given: `{name: array}`.
      found: `{name: Entry}`.
      what: what `given` is called.
      prefix: of all names, to be told with them.
    """
    for name, entry in found.items():
        told = f"`{what}` must have {prefix}{name} of shape {entry.shape}."
        if name not in given:
            raise ValueError(f"{told} There is none")
        shape = tuple(np.shape(given[name]))
        if shape != entry.shape:
            raise ValueError(f"{told} Received: {shape}")
    for name in given:
        if name not in found:
            raise ValueError(f"`{what}` has an entry that has no place in the model: "
                             f"{prefix}{name} of shape {tuple(np.shape(given[name]))}")


def array_of(state_dict, name):
    """An entry of a state dict as an array."""
    return np.asarray(state_dict[name])


def _theirs(name, entry, kept):
    """The value of an entry; what is kept, where it says the same."""
    old = None if kept is None or name not in kept else array_of(kept, name)
    if entry.weight is None:
        return entry.default() if old is None else old
    value = entry.weight.numpy()
    if old is not None and entry.is_order and np.all(entry.ours(old).astype(value.dtype) == value):
        return old
    return entry.theirs(value).astype(np.float32 if old is None else old.dtype)
