"""Elementwise transformers: functions of one number, for couplings and the like."""

from tfp_flows.transformers.affine import Affine
from tfp_flows.transformers.inverted import Inverted
from tfp_flows.transformers.logistic_mixture import LogisticMixture
from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.shift import Shift
from tfp_flows.transformers.transformer import Transformer

__all__ = [
    "Affine",
    "Inverted",
    "LogisticMixture",
    "RationalQuadratic",
    "Shift",
    "Transformer",
]
