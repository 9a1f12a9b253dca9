"""Normalizing flows for TensorFlow Probability, trained with Keras.

`bijectors` are ordinary `tfb.Bijector`s, `flows` are ready architectures, `FlowModel`
trains them, `inference` fits them to posteriors, `models` builds autoencoders and
classifiers of them, `detection` finds data of another kind, `diagnostics` tests
posteriors. `datasets`, `diagnostics` and `plots` are imported when they are first used.

Bijectors keep no cache, so no result is out of date after a variable changed. With a
bijector of TFP's, `td.log_prob(td.sample(n))` finds the inverse in a cache; a bijector
of this package computes it. This is expensive for `iaf`, `residual_flow` and `planar`,
whose inverses iterate. `Flow.sample_and_log_prob`, and TFP's
`experimental_sample_and_log_prob`, need no inverse.
"""

import importlib
from typing import TYPE_CHECKING, Any

from tfp_flows import (
    _backend,  # noqa: F401
    bijectors,
    detection,
    distributions,
    flows,
    inference,
    latent,
    masks,
    models,
    networks,
    training,
    transformers,
)
from tfp_flows._version import __version__ as __version__
from tfp_flows.auditing import audit_likelihood
from tfp_flows.checking import check_bijector
from tfp_flows.citing import citation
from tfp_flows.distributions import Flow
from tfp_flows.training import FlowModel

if TYPE_CHECKING:
    from tfp_flows import datasets, diagnostics, plots

__all__ = [
    "Flow",
    "FlowModel",
    "audit_likelihood",
    "bijectors",
    "check_bijector",
    "citation",
    "datasets",
    "detection",
    "diagnostics",
    "distributions",
    "flows",
    "inference",
    "latent",
    "masks",
    "models",
    "networks",
    "plots",
    "training",
    "transformers",
]


def __getattr__(name: str) -> Any:
    if name in ("datasets", "diagnostics", "plots"):
        return importlib.import_module(f"tfp_flows.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
