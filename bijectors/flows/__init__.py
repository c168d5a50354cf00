"""Architectures: functions that return a `bijectors.Chain`, and `DenseNet`, an option of them."""

from bijectors.flows.blocks import DenseNet
from bijectors.flows.head import scale_head
from bijectors.flows.image import image_flow
from bijectors.flows.tabular import tabular_flow
from bijectors.flows.toy import toy_flow

__all__ = ["DenseNet", "image_flow", "scale_head", "tabular_flow", "toy_flow"]
