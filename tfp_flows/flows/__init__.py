"""Ready flows: an architecture of the literature from one call.

Each lists its bijectors in the order in which data meet them.
"""

from collections.abc import Mapping
from typing import Any

from tfp_flows.distributions import Flow
from tfp_flows.flows.glow import glow
from tfp_flows.flows.nice import nice
from tfp_flows.flows.real_nvp import real_nvp

__all__ = ["from_config", "glow", "nice", "real_nvp"]


def from_config(config: Mapping[str, Any]) -> Flow:
    """Builds a ready flow again from its `config`.

    Raises:
      ValueError: if the configuration names no ready flow, or has arguments that it
        does not take.
    """
    arguments = dict(config)
    name = arguments.pop("flow", None)
    known = {"glow": glow, "nice": nice, "real_nvp": real_nvp}
    if name not in known:
        raise ValueError(f"config names the flow {name!r}; known: {sorted(known)}.")
    try:
        return known[name](**arguments)
    except TypeError as error:
        raise ValueError(f"config of {name} is not understood: {error}") from error
