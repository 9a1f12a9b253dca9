"""Ready flows: an architecture of the literature from one call.

Each lists its bijectors in the order in which data meet them.
"""

from collections.abc import Mapping
from typing import Any

from tfp_flows.distributions import Flow
from tfp_flows.flows.flow_plus_plus import flow_plus_plus
from tfp_flows.flows.glow import glow
from tfp_flows.flows.iaf import iaf
from tfp_flows.flows.maf import maf
from tfp_flows.flows.neural_spline_flow import neural_spline_flow
from tfp_flows.flows.nice import nice
from tfp_flows.flows.planar import planar
from tfp_flows.flows.radial import radial
from tfp_flows.flows.real_nvp import real_nvp
from tfp_flows.flows.residual_flow import residual_flow
from tfp_flows.flows.sylvester import sylvester

__all__ = [
    "flow_plus_plus",
    "from_config",
    "glow",
    "iaf",
    "maf",
    "neural_spline_flow",
    "nice",
    "planar",
    "radial",
    "real_nvp",
    "residual_flow",
    "sylvester",
]


def from_config(config: Mapping[str, Any]) -> Flow:
    """Builds a ready flow again from its `config`.

    Raises:
      ValueError: if the configuration names no ready flow, or has arguments that it
        does not take.
    """
    arguments = dict(config)
    name = arguments.pop("flow", None)
    if name not in READY:
        raise ValueError(f"config names the flow {name!r}; known: {sorted(READY)}.")
    try:
        return READY[name](**arguments)
    except TypeError as error:
        raise ValueError(f"config of {name} is not understood: {error}") from error


# All ready flows by name.
READY = {name: globals()[name] for name in __all__ if name != "from_config"}
