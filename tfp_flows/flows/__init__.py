"""Ready flows: an architecture of the literature from one call.

Each is a generator that yields its bijectors in the order in which data meet them, made
a flow by `ready`, which does the same for functions of your own.
"""

from tfp_flows.flows.bnaf import bnaf
from tfp_flows.flows.ffjord import ffjord
from tfp_flows.flows.flow_plus_plus import flow_plus_plus
from tfp_flows.flows.gaussianization import gaussianization
from tfp_flows.flows.glow import glow
from tfp_flows.flows.iaf import iaf
from tfp_flows.flows.jet import jet
from tfp_flows.flows.maf import maf
from tfp_flows.flows.naf import naf
from tfp_flows.flows.neural_spline_flow import neural_spline_flow
from tfp_flows.flows.nice import nice
from tfp_flows.flows.planar import planar
from tfp_flows.flows.radial import radial
from tfp_flows.flows.real_nvp import real_nvp
from tfp_flows.flows.residual_flow import residual_flow
from tfp_flows.flows.simplex import simplex
from tfp_flows.flows.sphere import sphere
from tfp_flows.flows.sylvester import sylvester
from tfp_flows.flows.tarflow import tarflow
from tfp_flows.flows.torus import torus
from tfp_flows.ready.building import ready
from tfp_flows.ready.contexts import NormalizedContext, OneHot
from tfp_flows.ready.dequantization import Dequantization
from tfp_flows.ready.plan import Plan
from tfp_flows.ready.registry import READY, check_config, from_config

__all__ = [
    "READY",
    "Dequantization",
    "NormalizedContext",
    "OneHot",
    "Plan",
    "bnaf",
    "check_config",
    "ffjord",
    "flow_plus_plus",
    "from_config",
    "gaussianization",
    "glow",
    "iaf",
    "jet",
    "maf",
    "naf",
    "neural_spline_flow",
    "nice",
    "planar",
    "radial",
    "ready",
    "real_nvp",
    "residual_flow",
    "simplex",
    "sphere",
    "sylvester",
    "tarflow",
    "torus",
]
