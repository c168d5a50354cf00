"""What is known of the norms in a flow, and whether they prove it invertible."""

import dataclasses
import typing

__all__ = ["LayerNorm", "NormReport"]


class LayerNorm(typing.NamedTuple):
    """The norm of one layer, `||W||_{domain -> codomain}`.

    Attributes:
      block, layer: name of the block; place in it and kind.
      domain, codomain: the orders p and q.
      coeff: what the layer is constrained to.
      measured: by power iteration from fresh starts, from below; exact in closed form.
      bound: proven, from above.
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
        """One line."""
        if not self.blocks:
            return "certified (no residual blocks)"
        worst = max(self.blocks, key=self.blocks.__getitem__)
        word = "certified" if self.certified else "not certified"
        return f"{word} (largest Lipschitz bound of a block {self.blocks[worst]:.4f}, {worst})"

    def __str__(self):
        """A table, a line a layer."""
        lines = [f"{'block':<16} {'layer':<10} {'p':>6} {'q':>6} {'measured':>9} {'bound':>9} "
                 f"{'block':>9}"]
        last = None
        for row in self.layers:
            of_block = f"{self.blocks[row.block]:9.4f}" if row.block != last else " " * 9
            last = row.block
            lines.append(f"{row.block:<16} {row.layer:<10} {row.domain:6.3g} {row.codomain:6.3g} "
                         f"{row.measured:9.4f} {row.bound:9.4f} {of_block}")
        return "\n".join([*lines, f"invertible: {self.verdict()}"])
