"""What a strategy keeps between the passes, tensor by tensor, and the peak to be expected.

A training step is traced, not run. Kept is what the part of the graph before the loss gives to the
part after it. The peak is that of the graph's operations in the order in which they were made, each
tensor alive until the last operation that reads it; functions that are called, and loops, count
with a peak of their own.
"""

import dataclasses
import typing

import tensorflow as tf

from tfresflow.batches import seeds
from tfresflow.checks.events import as_numbers
from tfresflow.checks.members import check_flow
from tfresflow.checks.rules import check, is_whole
from tfresflow.functions.steps import Rows, bind
from tfresflow.functions.sweep import check_sweep

__all__ = ["Kept", "Saved", "saved", "traced_peak"]

# They give what they are given: of another shape, or under another name.
_VIEWS = {"EnsureShape", "ExpandDims", "Identity", "IdentityN", "PreventGradient", "Reshape",
          "Squeeze", "StopGradient"}


class Kept(typing.NamedTuple):
    """A tensor that is kept.

    Attributes:
      name: of the operation that made it.
      shape, dtype: of the tensor, for the whole batch.
      num_bytes: its size.
    """

    name: str
    shape: tuple
    dtype: str
    num_bytes: int


@dataclasses.dataclass(frozen=True)
class Saved:
    """What a strategy keeps.

    Attributes:
      tensors: list of `Kept`, in the order in which they are made; x and z are among them where
        they are kept.
      peak: bytes that a step is expected to take at its peak, weights not counted.
    """

    tensors: list
    peak: int

    @property
    def num_bytes(self):
        """Bytes of all tensors that are kept between the passes."""
        return sum(kept.num_bytes for kept in self.tensors)

    def __str__(self):
        """A table, a line for each tensor, and the sums."""
        lines = [f"{'bytes':>12}  {'dtype':<8} {'shape':<20} made by"]
        lines += [f"{k.num_bytes:>12,}  {k.dtype:<8} {str(list(k.shape)):<20} {k.name}"
                  for k in self.tensors]
        return "\n".join([*lines, f"{self.num_bytes:>12,}  kept between the passes",
                          f"{self.peak:>12,}  expected at the peak"])


def saved(flow, autodiff, batch, seed=0):
    """What `autodiff` keeps between the passes of a training step of a flow.

    Args:
      flow: a flow.
      autodiff: a strategy of `tfresflow.autodiff`.
      batch: number of examples, or x, of which the shape counts; of a conditional flow
        `(x, context)`.
      seed: of the step.

    Returns:
      A `Saved`; `print` it for a table.

    Raises:
      ValueError: if an argument is not what it should be.

    Example:
      >>> from bijectors import flows
      >>> from tfresflow import autodiff
      >>> flow = flows.tabular_flow([8], nblocks=4, dims=64, seed=0)
      >>> kept = autodiff.saved(flow, autodiff.Reversible(), 500)
      >>> kept.tensors[0].shape, kept.num_bytes           # z alone: 500 * 8 numbers of 4 bytes
      ((500, 8), 16000)
      >>> autodiff.saved(flow, autodiff.Recomputed(), 500).num_bytes >= 10 * kept.num_bytes
      True

    References: as `print_saved_residuals` of JAX.
    """
    check_flow(flow)
    check_sweep(autodiff)
    conditional = getattr(flow, "context_shape", None) is not None
    floats = [w.dtype for layer in flow.layers for w in layer.weights if "float" in w.dtype]
    dtype = floats[0] if floats else "float32"
    if is_whole(batch) and not tf.is_tensor(batch):
        shapes = [flow.event_shape, *([flow.context_shape] if conditional else [])]
        specs = [tf.TensorSpec([batch, *shape], dtype) for shape in shapes]
    else:
        check(not conditional or isinstance(batch, tuple) and len(batch) == 2, "batch",
              "be a number of examples, or (x, context)", batch)
        tensors = [as_numbers("batch", t, dtype) for t in (batch if conditional else [batch])]
        specs = [tf.TensorSpec(t.shape, dtype) for t in tensors]

    def start(x, *context):
        bound = bind(flow, seeds.as_seed(seed), x.shape[0], x.dtype)
        return bound.steps, (x, *context) if conditional else x

    return _Traced(autodiff, start, specs).saved


def traced_peak(autodiff, steps, x, size):
    """The peak of `Saved` of a sweep over bound steps.

    Args:
      autodiff: a strategy.
      steps, x: as `Sweep.__call__` takes them; of x, the shape of an example counts.
      size: number of examples.
    """
    def start(*tensors):
        return steps, tf.nest.pack_sequence_as(x, tensors)

    specs = [tf.TensorSpec([size, *t.shape[1:]], t.dtype) for t in tf.nest.flatten(x)]
    return _Traced(autodiff, start, specs).saved.peak


class _Traced:
    """A sweep as a graph.

    Args:
      autodiff: a strategy.
      start: `tensors -> (steps, state)`.
      specs: of the tensors.
    """

    def __init__(self, autodiff, start, specs):
        self._size = specs[0].shape[0]
        check(self._size is not None, "batch", "have a known number of examples", specs[0].shape)
        marks = []

        def mark():
            marks.append(len(tf.compat.v1.get_default_graph().get_operations()))

        def end(z):
            mark()
            return (), tf.nest.map_structure(tf.identity, z)  # as that of a normal base

        def run(*tensors):
            steps, state = start(*tensors)
            mark()
            rows, ones = Rows(tf.range(self._size)), tf.ones([self._size], specs[0].dtype)
            return autodiff(steps, state, rows, ones, end).products

        traced = tf.function(run, autograph=False).get_concrete_function(*specs)
        self.graph, (self._first, self._boundary) = traced.graph, marks[:2]
        self._inputs = self.graph.inputs[:len(specs)]

    @property
    def saved(self):
        operations = self.graph.get_operations()
        moving = _depending(self._inputs, operations)
        before = {op.name for op in operations[:self._boundary]}
        kept = {}
        for op in operations[self._boundary:]:
            for tensor in op.inputs:
                root = _root(tensor)
                if tensor.op.name in before and root.name in moving and root.dtype.is_floating:
                    kept.setdefault(root.name, root)
        order = {op.name: i for i, op in enumerate(operations)}
        tensors = sorted(kept.values(), key=lambda t: order[t.op.name])
        return Saved([Kept(t.op.name, self._shape(t), t.dtype.name, self._bytes(t))
                      for t in tensors], self._peak(self.graph, self._first))

    def _shape(self, tensor):
        if tensor.shape.rank is None:
            return ()
        return tuple(self._size if s is None else s for s in tensor.shape)

    def _bytes(self, tensor):
        if tensor.dtype.base_dtype in (tf.resource, tf.variant):
            return 0
        return tf.TensorShape(self._shape(tensor)).num_elements() * tensor.dtype.size

    def _peak(self, graph, first=0):
        """Of the operations from the `first` on, in bytes; inputs are the caller's."""
        operations = graph.get_operations()
        last, alive, now, peak = {}, {}, 0, 0
        outputs = {_root(t).name for t in graph.outputs}
        for i, op in enumerate(operations):
            for tensor in op.inputs:
                last[_root(tensor).name] = i
        dying = {}
        for name, i in last.items():
            dying.setdefault(i, []).append(name)
        for i, op in enumerate(operations):
            if op.type not in _VIEWS and op.type not in ("Placeholder", "Const"):
                inside = 0 if i < first else self._inside(op)
                peak = max(peak, now + inside)
                for tensor in op.outputs:
                    if tensor.name in last or tensor.name in outputs:
                        alive[tensor.name] = 0 if i < first else self._bytes(tensor)
                        now += alive[tensor.name]
                peak = max(peak, now)
            for name in dying.get(i, ()):
                if name in alive and name not in outputs:
                    now -= alive.pop(name)
        return peak

    def _inside(self, op):
        """The peak of what a call or a loop runs."""
        found = 0
        for key in ("f", "body", "then_branch", "else_branch", "branches"):
            try:
                functions = op.get_attr(key)
            except ValueError:
                continue
            for function in functions if isinstance(functions, (list, tuple)) else [functions]:
                graph = op.graph._get_function(function.name)
                if graph is not None:
                    found = max(found, self._peak(graph.graph))
        return found


def _root(tensor):
    """The tensor whose memory this one shows."""
    while tensor.op.type in _VIEWS:
        tensor = tensor.op.inputs[tensor.value_index if tensor.op.type == "IdentityN" else 0]
    return tensor


def _depending(inputs, operations):
    """Names of the tensors that follow from the inputs."""
    found = {t.name for t in inputs}
    for op in operations:
        if any(t.name in found for t in op.inputs):
            found.update(t.name for t in op.outputs)
    return found
