"""Training flows with Keras."""

from tfp_flows.core.data_warnings import (
    ConstantDataWarning,
    DataWarning,
    WholeNumbersWarning,
)
from tfp_flows.core.xla_where_faster import XLAWhereFaster
from tfp_flows.training.architecture import ArchitectureMismatch
from tfp_flows.training.divergence import TrainingDiverged
from tfp_flows.training.flow_matching import FlowMatching
from tfp_flows.training.flow_model import FlowModel, negative_log_likelihood
from tfp_flows.training.freed_memory import keep_freed_memory
from tfp_flows.training.freeze import freeze
from tfp_flows.training.fused_adam import FusedAdam
from tfp_flows.training.initialize import initialize, needs_initialization
from tfp_flows.training.metrics import BitsPerDim, NegativeLogLikelihood
from tfp_flows.training.reconstruction import ReconstructionError, reconstruction_error
from tfp_flows.training.weights_file import load_model

__all__ = [
    "ArchitectureMismatch",
    "BitsPerDim",
    "ConstantDataWarning",
    "DataWarning",
    "FlowMatching",
    "FlowModel",
    "FusedAdam",
    "NegativeLogLikelihood",
    "ReconstructionError",
    "TrainingDiverged",
    "WholeNumbersWarning",
    "XLAWhereFaster",
    "freeze",
    "initialize",
    "keep_freed_memory",
    "load_model",
    "needs_initialization",
    "negative_log_likelihood",
    "reconstruction_error",
]
