"""Keras models: autoencoders with flows, classifiers, free-form flows."""

from tfp_flows.models.flow_vae import FlowVAE
from tfp_flows.models.free_form_flow import FreeFormFlow
from tfp_flows.models.hybrid_model import HybridModel

__all__ = ["FlowVAE", "FreeFormFlow", "HybridModel"]
