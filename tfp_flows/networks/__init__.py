"""Conditioner networks, as Keras layers whose output starts at zero."""

from tfp_flows.networks.conv_net import ConvNet
from tfp_flows.networks.mlp import MLP
from tfp_flows.networks.network import Network
from tfp_flows.networks.residual_conv_net import ResidualConvNet
from tfp_flows.networks.residual_mlp import ResidualMLP

__all__ = ["MLP", "ConvNet", "Network", "ResidualConvNet", "ResidualMLP"]
