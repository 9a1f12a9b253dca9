"""Conditioner networks: Keras layers whose output starts at zero."""

from tfp_flows.networks.causal_transformer import CausalTransformer
from tfp_flows.networks.conv_net import ConvNet
from tfp_flows.networks.gated_residual_conv_net import GatedResidualConvNet
from tfp_flows.networks.layer_norm import LayerNorm
from tfp_flows.networks.lipschitz_conv_net import LipschitzConvNet
from tfp_flows.networks.lipschitz_mlp import LipschitzMLP
from tfp_flows.networks.lipschitz_network import LipschitzNetwork
from tfp_flows.networks.made import MADE
from tfp_flows.networks.mlp import MLP
from tfp_flows.networks.network import Network
from tfp_flows.networks.periodic_mlp import PeriodicMLP
from tfp_flows.networks.residual_conv_net import ResidualConvNet
from tfp_flows.networks.residual_mlp import ResidualMLP
from tfp_flows.networks.vision_transformer import VisionTransformer

__all__ = [
    "MADE",
    "MLP",
    "CausalTransformer",
    "ConvNet",
    "GatedResidualConvNet",
    "LayerNorm",
    "LipschitzConvNet",
    "LipschitzMLP",
    "LipschitzNetwork",
    "Network",
    "PeriodicMLP",
    "ResidualConvNet",
    "ResidualMLP",
    "VisionTransformer",
]
