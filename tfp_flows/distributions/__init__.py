"""The flow as a distribution, and base distributions of its noise."""

from tfp_flows.distributions.augmented import Augmented
from tfp_flows.distributions.base import (
    diagonal_normal,
    standard_logistic,
    standard_normal,
    uniform,
)
from tfp_flows.distributions.class_conditional_normal import ClassConditionalNormal
from tfp_flows.distributions.conditional import Conditional
from tfp_flows.distributions.fitted_mixture import FittedMixture
from tfp_flows.distributions.flow import Flow
from tfp_flows.distributions.gaussian_mixture import gaussian_mixture
from tfp_flows.distributions.lower_bound import LowerBound
from tfp_flows.distributions.max_pooled import MaxPooled
from tfp_flows.distributions.mixed_dequantization import MixedDequantization
from tfp_flows.distributions.resampled_base import ResampledBase
from tfp_flows.distributions.standard_error import log_prob_and_standard_error
from tfp_flows.distributions.student_t import student_t
from tfp_flows.distributions.variational_dequantization import (
    VariationalDequantization,
)

__all__ = [
    "Augmented",
    "ClassConditionalNormal",
    "Conditional",
    "FittedMixture",
    "Flow",
    "LowerBound",
    "MaxPooled",
    "MixedDequantization",
    "ResampledBase",
    "VariationalDequantization",
    "diagonal_normal",
    "gaussian_mixture",
    "log_prob_and_standard_error",
    "standard_logistic",
    "standard_normal",
    "student_t",
    "uniform",
]
