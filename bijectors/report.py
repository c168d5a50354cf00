"""What is known of the norms in a flow, and whether they prove it invertible."""

import dataclasses
import math
import typing

import tensorflow as tf

from tfresflow.checks.rules import check_object
from tfresflow.layers.orders import lipschitz

__all__ = ["LayerNorm", "NormReport", "norm_report"]


class LayerNorm(typing.NamedTuple):
    """The norm of one layer, `||W||_{domain -> codomain}`.

    Attributes:
      block, layer: name of the block; place in it and kind.
      domain, codomain: the orders p and q.
      coeff: what the layer is constrained to.
      measured: the norm by power iteration from fresh starts, which may be too small; exact if one
        of the orders is p = 1 or q = inf.
      bound: a proven upper bound of the norm.
    """

    block: str
    layer: str
    domain: float
    codomain: float
    coeff: float
    measured: float
    bound: float


@dataclasses.dataclass(frozen=True)
class NormReport:
    """All norms of a flow.

    Attributes:
      layers: list of `LayerNorm`.
      blocks: `{name: proven bound of Lip(g)}` of the residual blocks.

    Example:
      >>> from bijectors.report import NormReport
      >>> report = NormReport([], {"dense0": 0.9, "dense1": 1.2})
      >>> report.certified, report.verdict()
      (False, 'not certified (largest Lipschitz bound of a block 1.2000, dense1)')
    """

    layers: list
    blocks: dict

    @property
    def certified(self):
        """Whether every residual branch is proven to be a contraction: the flow is invertible."""
        return all(bound < 1 for bound in self.blocks.values())

    @property
    def largest(self):
        """The largest measured norm of all layers."""
        return max((layer.measured for layer in self.layers), default=0.0)

    def verdict(self):
        """Whether the flow is certified invertible, and its largest bound, in one line."""
        if not self.blocks:
            return "certified (no residual blocks)"
        worst = max(self.blocks, key=self.blocks.__getitem__)
        word = "certified" if self.certified else "not certified"
        return f"{word} (largest Lipschitz bound of a block {self.blocks[worst]:.4f}, {worst})"

    def __str__(self):
        """A table with one line for each layer, and the verdict."""
        lines = [f"{'block':<16} {'layer':<10} {'p':>6} {'q':>6} {'measured':>9} {'bound':>9} "
                 f"{'block':>9}"]
        last = None
        for row in self.layers:
            of_block = f"{self.blocks[row.block]:9.4f}" if row.block != last else " " * 9
            last = row.block
            lines.append(f"{row.block:<16} {row.layer:<10} {row.domain:6.3g} {row.codomain:6.3g} "
                         f"{row.measured:9.4f} {row.bound:9.4f} {of_block}")
        return "\n".join([*lines, f"invertible: {self.verdict()}"])


def norm_report(flow):
    """The norms of all Lipschitz layers of a flow, measured anew and bounded from above.

    Args:
      flow: a `Flow`.

    Returns:
      A `NormReport`: orders, norms, a proven Lipschitz bound for each residual block, and whether
      these certify that the flow is invertible.

    Raises:
      ValueError: if `flow` is none, as a model or a bijector of TFP.

    Example:
      >>> import keras
      >>> from bijectors import InvertibleResidual, norm_report
      >>> from tfresflow import layers
      >>> g = layers.InducedNormDense(2, kernel_initializer=keras.initializers.Identity(0.5))
      >>> report = norm_report(InvertibleResidual(g, [2]))
      >>> round(report.largest, 3), report.certified
      (0.5, True)
      >>> print(report.verdict())
      certified (largest Lipschitz bound of a block 0.5..., ...)
    """
    check_object("flow", flow, "be a `Flow` of bijectors: of a model take `model.flow`, of a "
                 "bijector of TFP the flow in it", "lipschitz_layers", "branches")
    found, branches = flow.lipschitz_layers(), flow.branches()
    measured = tf.nest.map_structure(lambda layer: float(layer.measure_norm()), found)
    bounds = tf.nest.map_structure(lambda layer: layer.upper_bound(), found)
    rows, proven = [], {}
    for name, own in found.items():
        for i, (layer, norm, bound) in enumerate(zip(own, measured[name], bounds[name])):
            kind = type(layer).__name__.removeprefix("InducedNorm")
            rows.append(LayerNorm(name, f"{i} {kind}", float(layer.domain_order()),
                                  float(layer.codomain_order()), layer.coeff, norm, bound))
        known = {id(layer): bound for layer, bound in zip(own, bounds[name])}
        proven[name] = lipschitz(branches[name],
                                 lambda layer: known.get(id(layer), layer.lipschitz),
                                 unknown=math.inf)
    return NormReport(rows, proven)
