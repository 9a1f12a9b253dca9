"""The flow as a distribution, and distributions of its noise."""

from tfp_flows.distributions.base import (
    diagonal_normal,
    standard_logistic,
    standard_normal,
)
from tfp_flows.distributions.flow import Flow

__all__ = ["Flow", "diagonal_normal", "standard_logistic", "standard_normal"]
