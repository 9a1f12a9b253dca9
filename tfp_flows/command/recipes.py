"""What suits a flow and a data set on two CPU cores: sizes, epochs, learning rates."""

from __future__ import annotations

from typing import Any

from tfp_flows import datasets

__all__ = ["recipe"]

# Where nothing is said, it is the flow's default: the architecture of its paper.
_VECTORS = {
    "nice": {"epochs": 50, "width": 256},
    "real_nvp": {"epochs": 60, "width": 128},
    "planar": {"epochs": 60, "layers": 32, "learning_rate": 5e-3},
    "radial": {"epochs": 60, "layers": 32, "learning_rate": 5e-3},
    "sylvester": {"epochs": 60, "layers": 16, "learning_rate": 5e-3},
    "residual_flow": {
        "epochs": 60,
        "layers": 6,
        "width": 64,
        "learning_rate": 5e-3,
    },
    "maf": {"epochs": 60, "layers": 8, "width": 64, "learning_rate": 2e-3},
    "iaf": {"epochs": 60, "width": 64, "learning_rate": 2e-3},
    "neural_spline_flow": {"epochs": 40, "layers": 4, "width": 64},
    "flow_plus_plus": {"epochs": 40, "layers": 6, "width": 64, "components": 8},
}
_DIGITS = {
    "nice": {"epochs": 100, "width": 200},
    "real_nvp": {"epochs": 60, "width": 32, "depth": 2},
    "glow": {"epochs": 60, "steps": 8, "width": 64},
    "planar": {"epochs": 60, "layers": 32, "learning_rate": 5e-3},
    "radial": {"epochs": 60, "layers": 32, "learning_rate": 5e-3},
    "sylvester": {"epochs": 60, "layers": 8, "columns": 32, "learning_rate": 5e-3},
    "residual_flow": {
        "epochs": 30,
        "layers": 1,
        "width": 32,
        "learning_rate": 5e-3,
    },
    "maf": {"epochs": 60, "width": 256},
    "iaf": {"epochs": 20, "layers": 2, "width": 256},
    "neural_spline_flow": {"epochs": 40, "layers": 4, "width": 128},
    "flow_plus_plus": {
        "epochs": 30,
        "layers": 2,
        "width": 32,
        "depth": 2,
        "components": 4,
    },
}
_IMAGES = {
    "nice": {"epochs": 25, "batch_size": 200, "learning_rate": 5e-4},
    "real_nvp": {
        "epochs": 20,
        "width": 32,
        "depth": 2,
        "logit_margin": 0.05,
        "clip_norm": 100.0,
    },
    "glow": {
        "epochs": 20,
        "steps": 8,
        "width": 64,
        "logit_margin": 0.05,
        "clip_norm": 100.0,
    },
    "flow_plus_plus": {
        "epochs": 20,
        "width": 32,
        "depth": 2,
        "components": 8,
        "clip_norm": 100.0,
    },
}
_OTHER_IMAGES = {"epochs": 20, "logit_margin": 0.05, "clip_norm": 100.0}


def recipe(data: str, flow: str) -> dict[str, Any]:
    """Settings of a run and arguments of a flow, where none are given.

    Args:
      data: what `tfp_flows.datasets.load` takes, as text.
      flow: name of a ready flow.

    Returns:
      Values by their names: fields of `runs.Settings`, or arguments of the
      flow.
    """
    if data == "digits":
        return {"batch_size": 64, "logit_margin": 0.05, **_DIGITS.get(flow, {})}
    if data in datasets.TOYS or data.lower().endswith(".csv"):
        return dict(_VECTORS.get(flow, {}))
    found = dict(_IMAGES.get(flow, _OTHER_IMAGES))
    if data.lower().endswith((".npy", ".npz")):
        # What they hold is not known yet, and alpha is for 8-bit images only.
        found.pop("logit_margin", None)
    return found
