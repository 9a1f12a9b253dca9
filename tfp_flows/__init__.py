"""Normalizing flows for TensorFlow Probability, trained with Keras.

`bijectors` are ordinary `tfb.Bijector`s, `flows` are ready architectures, `FlowModel`
trains them. `tfp_flows.datasets` and `tfp_flows.plots` are imported by name.
"""

from tfp_flows import (
    _backend,  # noqa: F401
    bijectors,
    distributions,
    flows,
    latent,
    masks,
    networks,
    training,
    transformers,
)
from tfp_flows._version import __version__ as __version__
from tfp_flows.checking import check_bijector
from tfp_flows.distributions import Flow
from tfp_flows.training import FlowModel

__all__ = [
    "Flow",
    "FlowModel",
    "bijectors",
    "check_bijector",
    "distributions",
    "flows",
    "latent",
    "masks",
    "networks",
    "training",
    "transformers",
]
