"""Keras models with flows inside: variational autoencoders and hybrid models."""

from tfp_flows.models.flow_vae import FlowVAE
from tfp_flows.models.hybrid_model import HybridModel

__all__ = ["FlowVAE", "HybridModel"]
