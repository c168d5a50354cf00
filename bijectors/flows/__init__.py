"""Architectures: functions that return a flow, and `DenseNet`, an option of them."""

from bijectors.flows.blocks import DenseNet
from bijectors.flows.head import scale_head
from bijectors.flows.image import image_flow
from bijectors.flows.lattice import phi4_couplings, phi4_flow, u1_flow
from bijectors.flows.noise import dequantizer
from bijectors.flows.normflows import from_normflows
from bijectors.flows.published import (from_reference, load_reference, reference_average,
                                       to_reference)
from bijectors.flows.tabular import tabular_flow
from bijectors.flows.toy import toy_flow

__all__ = ["DenseNet", "dequantizer", "from_normflows", "from_reference", "image_flow",
           "load_reference", "phi4_couplings", "phi4_flow", "reference_average", "scale_head",
           "tabular_flow", "to_reference", "toy_flow", "u1_flow"]
