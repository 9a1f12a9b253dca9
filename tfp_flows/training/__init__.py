"""Training flows with Keras."""

from tfp_flows.training.architecture import ArchitectureMismatch
from tfp_flows.training.flow_model import FlowModel, negative_log_likelihood
from tfp_flows.training.initialize import initialize, needs_initialization

__all__ = [
    "ArchitectureMismatch",
    "FlowModel",
    "initialize",
    "needs_initialization",
    "negative_log_likelihood",
]
