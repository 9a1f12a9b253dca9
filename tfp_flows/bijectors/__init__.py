"""Bijectors for normalizing flows, each an ordinary `tfb.Bijector`."""

from tfp_flows.bijectors.actnorm import ActNorm
from tfp_flows.bijectors.additive_coupling import AdditiveCoupling
from tfp_flows.bijectors.affine_coupling import AffineCoupling
from tfp_flows.bijectors.batch_norm import BatchNorm
from tfp_flows.bijectors.chain import Chain
from tfp_flows.bijectors.coupling import Coupling
from tfp_flows.bijectors.invertible_conv1x1 import InvertibleConv1x1
from tfp_flows.bijectors.joint_bijector import JointBijector
from tfp_flows.bijectors.logit import Logit
from tfp_flows.bijectors.multiscale import MultiScale
from tfp_flows.bijectors.permutation import Permutation
from tfp_flows.bijectors.scaling import Scaling
from tfp_flows.bijectors.squeeze import Squeeze
from tfp_flows.bijectors.transformers import Affine, Shift, Transformer

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "Affine",
    "AffineCoupling",
    "BatchNorm",
    "Chain",
    "Coupling",
    "InvertibleConv1x1",
    "JointBijector",
    "Logit",
    "MultiScale",
    "Permutation",
    "Scaling",
    "Shift",
    "Squeeze",
    "Transformer",
]
