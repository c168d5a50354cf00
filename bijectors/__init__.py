"""TFP bijectors of residual flows. Data to latent is `forward`."""

from bijectors.actnorm import ActNorm
from bijectors.base import Flow
from bijectors.chain import Chain
from bijectors.factor_out import FactorOut
from bijectors.logit import Logit
from bijectors.reshape import Flatten, Squeeze
from bijectors.residual import InvertibleResidual

__all__ = ["ActNorm", "Chain", "FactorOut", "Flatten", "Flow", "InvertibleResidual", "Logit",
           "Squeeze"]
