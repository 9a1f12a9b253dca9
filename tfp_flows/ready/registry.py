"""Ready flows by name, and the `config` that builds one again."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_flows import distributions

__all__ = [
    "READY",
    "check_config",
    "from_config",
    "key_of",
    "make_config",
    "plain",
    "register",
]

_REGISTERED: dict[str, Callable[..., Any]] = {}
# All ready flows by the name that a `config` holds: those of `tfp_flows.flows`, and
# users' own under "module:function".
READY: Mapping[str, Callable[..., Any]] = types.MappingProxyType(_REGISTERED)


def check_config(config: Mapping[str, Any] | None) -> None:
    """Raises a ValueError if `from_config` could not build a flow of this `config`.

    Example:
      >>> from tfp_flows import flows
      >>> flows.check_config(flows.nice((2,)).config)

    Args:
      config: mapping, the `config` of a flow, or `None`.

    Raises:
      ValueError: if there is none, or the flow's function cannot be found by its name.
    """
    name = None if config is None else config.get("flow")
    if name in READY:
        return
    if name is not None and "<locals>" in name:
        raise ValueError(
            f"the ready flow {name} is defined inside a function, where it cannot be "
            "found again: define it at the top of a module, or give it a name by "
            '@ready(name="package:flow").'
        )
    raise ValueError(
        f"config names the flow {name!r}; known: {sorted(READY)}. Import the module "
        "that defines it first."
    )


def from_config(config: Mapping[str, Any]) -> distributions.Flow:
    """Builds a ready flow again from its `config`.

    Example:
      >>> from tfp_flows import flows
      >>> flows.from_config(flows.nice((2,), layers=2, seed=0).config).name
      'nice'

    Args:
      config: mapping, the `config` of a ready flow, through JSON or not.

    Returns:
      A flow with the same options, and the variables that it was first built with: its
      seed is in the `config`.

    Raises:
      ValueError: if the configuration names no ready flow, or has arguments that it
        does not take.
    """
    check_config(config)
    arguments = dict(config)
    name = arguments.pop("flow")
    try:
        return READY[name](**arguments)
    except TypeError as error:
        raise ValueError(f"config of {name} is not understood: {error}") from error


def key_of(build: Callable) -> str:
    """The name of a flow in a `config`; ours go by the name of the function."""
    if build.__module__.startswith("tfp_flows.flows."):
        return build.__name__
    return f"{build.__module__}:{build.__qualname__}"


def register(key: str, flow: Callable[..., Any]) -> None:
    """Lets `from_config` find a flow.

    Raises:
      ValueError: if the name is another flow's.
    """
    known = _REGISTERED.get(key)
    # The same function of the same module is the one to be, after a reload.
    if known is not None and _source_of(known) != _source_of(flow):
        raise ValueError(f"the name {key!r} is taken by {_source_of(known)}.")
    _REGISTERED[key] = flow


def _source_of(flow: Callable) -> str:
    return f"{flow.__module__}.{flow.__qualname__}"


def make_config(key: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The `config` that `from_config` builds a flow again from, all of it plain."""
    config = {"flow": key, **arguments}
    config["event_shape"] = list(arguments["event_shape"])
    encoder = config.pop("context_encoder")
    if encoder is not None:
        # Keras describes a layer with the shape that it was built for.
        described = keras.saving.serialize_keras_object(encoder)
        config["context_encoder"] = plain(described)
    return config


def plain(value: Any) -> Any:
    """Returns an argument in a form that JSON can hold."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, tf.TensorShape):
        return value.as_list()
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return value
