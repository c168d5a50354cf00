"""TFP bijectors of residual flows; `forward` goes from data to latent."""

import tfresflow  # noqa: F401  it refuses other backends of Keras than TensorFlow
from bijectors.actnorm import ActNorm
from bijectors.base import Flow
from bijectors.chain import Chain
from bijectors.column_supports import ColumnSupports
from bijectors.conv1x1 import InvertibleConv1x1
from bijectors.coupling import Coupling, checkerboard
from bijectors.dequantize import Dequantize
from bijectors.embedded import Embedded
from bijectors.factor_out import FactorOut
from bijectors.flatten import Flatten
from bijectors.foreign import Foreign
from bijectors.given import Given, distribution
from bijectors.inverted import Inverted
from bijectors.logit import Logit
from bijectors.monotone import Monotone
from bijectors.report import norm_report
from bijectors.residual import InvertibleResidual
from bijectors.squeeze import Squeeze
from bijectors.tails import heavy_tails

__all__ = ["ActNorm", "Chain", "ColumnSupports", "Coupling", "Dequantize", "Embedded", "FactorOut",
           "Flatten", "Flow", "Foreign", "Given", "InvertibleConv1x1", "InvertibleResidual",
           "Inverted", "Logit", "Monotone", "Squeeze", "checkerboard", "distribution",
           "heavy_tails", "norm_report"]
