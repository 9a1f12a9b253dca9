"""Elementwise transformers: functions of one number, for couplings and the like."""

from tfp_flows.transformers.affine import Affine
from tfp_flows.transformers.analytic import Analytic
from tfp_flows.transformers.bernstein import Bernstein
from tfp_flows.transformers.cubic import Cubic
from tfp_flows.transformers.inverted import Inverted
from tfp_flows.transformers.linear_rational import LinearRational
from tfp_flows.transformers.logistic_mixture import LogisticMixture
from tfp_flows.transformers.per_entry import PerEntry
from tfp_flows.transformers.probit import Probit
from tfp_flows.transformers.rational_quadratic import RationalQuadratic
from tfp_flows.transformers.shift import Shift
from tfp_flows.transformers.sigmoid_network import SigmoidNetwork
from tfp_flows.transformers.soft_log import SoftLog
from tfp_flows.transformers.stacked import Stacked
from tfp_flows.transformers.sum_of_squares import SumOfSquares
from tfp_flows.transformers.transformer import Transformer

__all__ = [
    "Affine",
    "Analytic",
    "Bernstein",
    "Cubic",
    "Inverted",
    "LinearRational",
    "LogisticMixture",
    "PerEntry",
    "Probit",
    "RationalQuadratic",
    "Shift",
    "SigmoidNetwork",
    "SoftLog",
    "Stacked",
    "SumOfSquares",
    "Transformer",
]
