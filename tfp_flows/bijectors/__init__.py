"""Bijectors for normalizing flows, each an ordinary `tfb.Bijector`."""

from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.additive_coupling import AdditiveCoupling
from tfp_flows.bijectors.affine_coupling import AffineCoupling
from tfp_flows.bijectors.batch_norm import BatchNorm
from tfp_flows.bijectors.block_autoregressive import BlockAutoregressive
from tfp_flows.bijectors.chain import Chain
from tfp_flows.bijectors.continuous_flow import ContinuousFlow
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.elementwise import Elementwise
from tfp_flows.bijectors.haar import Haar
from tfp_flows.bijectors.inverse_autoregressive import InverseAutoregressive
from tfp_flows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.logit import Logit
from tfp_flows.bijectors.marginal_gaussianization import MarginalGaussianization
from tfp_flows.bijectors.masked_autoregressive import MaskedAutoregressive
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.permutation import Permutation
from tfp_flows.bijectors.planar import Planar
from tfp_flows.bijectors.plu import PLU
from tfp_flows.bijectors.qr import QR
from tfp_flows.bijectors.radial import Radial
from tfp_flows.bijectors.repeat import Repeat
from tfp_flows.bijectors.residual_flow import ResidualFlow
from tfp_flows.bijectors.scaling import Scaling
from tfp_flows.bijectors.simplex import Simplex
from tfp_flows.bijectors.sphere import Sphere
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.standardize import Standardize
from tfp_flows.bijectors.sylvester import Sylvester
from tfp_flows.bijectors.torus import Torus
from tfp_flows.core.joint_bijector import JointBijector

__all__ = [
    "PLU",
    "QR",
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "BatchNorm",
    "BlockAutoregressive",
    "Chain",
    "ContinuousFlow",
    "Coupling",
    "Elementwise",
    "Haar",
    "InverseAutoregressive",
    "InvertibleConv1x1",
    "JointBijector",
    "Logit",
    "MarginalGaussianization",
    "MaskedAutoregressive",
    "MultiScale",
    "Permutation",
    "Planar",
    "Radial",
    "Repeat",
    "ResidualFlow",
    "Scaling",
    "Simplex",
    "Sphere",
    "Squeeze",
    "Standardize",
    "Sylvester",
    "Torus",
]
