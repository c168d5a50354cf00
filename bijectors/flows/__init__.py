"""Architectures: functions that return a flow, and `DenseNet`, an option of them."""

from bijectors.flows.blocks import DenseNet
from bijectors.flows.head import scale_head
from bijectors.flows.image import image_flow
from bijectors.flows.noise import dequantizer
from bijectors.flows.tabular import tabular_flow
from bijectors.flows.toy import toy_flow

__all__ = ["DenseNet", "dequantizer", "image_flow", "scale_head", "tabular_flow", "toy_flow"]
