"""Training flows with Keras."""

from tfp_flows.training.flow_model import FlowModel, negative_log_likelihood
from tfp_flows.training.fused_adam import Adam
from tfp_flows.training.initialize import initialize, needs_initialization
from tfp_flows.training.reconstruction import ReconstructionError, reconstruction_error
from tfp_flows.training.weights_file import ArchitectureMismatch

__all__ = [
    "Adam",
    "ArchitectureMismatch",
    "FlowModel",
    "ReconstructionError",
    "initialize",
    "needs_initialization",
    "negative_log_likelihood",
    "reconstruction_error",
]
