"""Published configurations, as data: what papers trained, and what they report.

Nothing but the standard library is imported here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["RECIPES", "UNITS", "Recipe", "find"]

UNITS = {
    "log_likelihood": "nats",
    "log_likelihood_unit": "nats with values scaled to [0, 1]",
    "bits_per_dim": "bits per dimension",
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A configuration that a paper reports on.

    Attributes:
      data: what `tfp_flows.datasets.load` takes.
      flow: name of a ready flow.
      published: the result on the test split, in the unit of `metric`.
      error: two standard errors of `published`, where the paper has them.
      source: where the result and the configuration are from.
      settings: fields of `tfp_flows.command.settings.Settings`.
      flow_options: arguments of the flow.
      differs: what is not as in the paper.
      parameters: number of trainable parameters that is published, or `None`.
      metric: which of the results of a run is meant: "log_likelihood" in nats per
        example, "log_likelihood_unit" with values scaled to [0, 1], or "bits_per_dim".
      name: that of the recipe.
    """

    data: str
    flow: str
    published: float
    error: float | None
    source: str
    settings: Mapping[str, Any]
    flow_options: Mapping[str, Any]
    differs: str = ""
    parameters: int | None = None
    metric: str = "log_likelihood"
    name: str = "paper"

    @property
    def result(self) -> str:
        """The published result, in words."""
        error = "" if self.error is None else f" +/- {self.error:.2f}"
        return f"{self.published:.2f}{error} {UNITS[self.metric]}"


def find(data: str, flow: str, name: str = "paper") -> Recipe:
    """The recipe of a name for some data and a flow.

    Raises:
      ValueError: if there is none, naming those that there are.
    """
    for recipe in RECIPES:
        if (recipe.data, recipe.flow, recipe.name) == (data, flow, name):
            return recipe
    here = [r for r in RECIPES if r.data == data] or RECIPES
    known = "; ".join(f"{r.data} --flow {r.flow} --recipe {r.name}" for r in here)
    raise ValueError(
        f"there is no recipe {name!r} of {flow} on {data!r}. There are: {known}."
    )


# Neural spline flows. The paper counts training steps, looks at the validation split
# after every 250, and keeps the best weights.

_DURKAN = "Durkan et al. 2019, Neural Spline Flows, table 1 and the authors' code"
_BEST_OF = (
    "means and deviations are brought to 0 and 1 by all training rows first; linear "
    "layers have no shift"
)


def _spline(
    data: str,
    published: tuple[float, float],
    *,
    layers: int,
    depth: int,
    width: int,
    bins: int = 8,
    dropout: float,
    batch_size: int = 512,
    learning_rate: float = 5e-4,
    steps: int = 400_000,
) -> Recipe:
    """Rational-quadratic couplings of one row of the paper's table of settings."""
    return Recipe(
        data,
        "neural_spline_flow",
        *published,
        f"{_DURKAN}, RQ-NSF (C)",
        {
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "decay": "step",
            "clip_norm": 5.0,
            "epoch_steps": 250,
            "epochs": steps // 250,
        },
        {
            "layers": layers,
            "depth": depth,
            "width": width,
            "bins": bins,
            "bound": 3.0,
            "dropout": dropout,
            "linear": "lu",
            "marginals": True,
        },
        _BEST_OF,
    )


# Masked autoregressive flows, and Real NVP as their authors trained it.

_PAPAMAKARIOS = "Papamakarios et al. 2017, MAF, table 1 and the authors' code"

# Units of the networks, and results with two standard errors: Real NVP with 5 and with
# 10 couplings, MAF with 5 and with 10 layers.
_AFFINE: dict[str, tuple[int, dict[tuple[str, int], tuple[float, float]]]] = {
    "power": (
        100,
        {
            ("real_nvp", 5): (-0.02, 0.01),
            ("real_nvp", 10): (0.17, 0.01),
            ("maf", 5): (0.14, 0.01),
            ("maf", 10): (0.24, 0.01),
        },
    ),
    "gas": (
        100,
        {
            ("real_nvp", 5): (4.78, 1.80),
            ("real_nvp", 10): (8.33, 0.14),
            ("maf", 5): (9.07, 0.02),
            ("maf", 10): (10.08, 0.02),
        },
    ),
    "hepmass": (
        512,
        {
            ("real_nvp", 5): (-19.62, 0.02),
            ("real_nvp", 10): (-18.71, 0.02),
            ("maf", 5): (-17.70, 0.02),
            ("maf", 10): (-17.73, 0.02),
        },
    ),
    "miniboone": (
        512,
        {
            ("real_nvp", 5): (-13.55, 0.49),
            ("real_nvp", 10): (-13.84, 0.52),
            ("maf", 5): (-11.75, 0.44),
            ("maf", 10): (-12.24, 0.45),
        },
    ),
    "bsds300": (
        512,
        {
            ("real_nvp", 5): (152.97, 0.28),
            ("real_nvp", 10): (153.28, 1.78),
            ("maf", 5): (155.69, 0.28),
            ("maf", 10): (154.93, 0.28),
        },
    ),
}


def _affine(data: str, flow: str, layers: int) -> Recipe:
    """One row of the table above; the better number of layers is the recipe `paper`."""
    width, results = _AFFINE[data]
    kind = {"maf": "MAF", "real_nvp": "Real NVP"}[flow]
    best = max((5, 10), key=lambda n: results[flow, n])
    differs = "networks have two hidden layers, where the paper tries one and two"
    if data == "bsds300":
        differs += " of 512 and of 1024 units"
    differs += ", and does not say which it reports"
    if (data, flow) == ("gas", "maf"):
        differs += "; they are of rectified linear units, not of tanh"
    if flow == "real_nvp":
        differs += "; one network of rectified linear units gives shift and scale"
    differs += "; weights decay by themselves, not through Adam"
    return Recipe(
        data,
        flow,
        *results[flow, layers],
        f"{_PAPAMAKARIOS}, {kind} ({layers})",
        {
            "batch_size": 100,
            "learning_rate": 1e-4,
            "decay": "none",
            "weight_decay": 1e-6,
            "epochs": 1000,
            "patience": 30,
        },
        {"layers": layers, "width": width, "depth": 2, "batch_norm": True},
        differs,
        name="paper" if layers == best else f"paper-{layers}",
    )


# Images. Numbers on downsampled ImageNet are of the set of van den Oord et al. 2016.

_IMAGENET_32 = "downsampled_imagenet/32x32"
_IMAGENET_64 = "downsampled_imagenet/64x64"

# The authors' code counts epochs of 50,000 images on every set.
_GLOW_RUN: dict[str, Any] = {
    "learning_rate": 1e-3,
    "warmup": 10.0,
    "decay": "none",
    "average": 0.99,
    "epochs": 2000,
}
_GLOW: dict[str, Any] = {
    "source": "Kingma & Dhariwal 2018, Glow, table 2 and the authors' code",
    "metric": "bits_per_dim",
    "error": None,
    "differs": "log-scales are bounded; outputs of the networks are multiplied by a "
    "number below 1, not by a learned factor; the last level has no learned prior; "
    "images are not flipped or shifted; how long it trained is not said",
}
_GLOW_32 = {"batch_size": 512, "epoch_steps": 98, **_GLOW_RUN}
_GLOW_64 = {"batch_size": 128, "epoch_steps": 391, **_GLOW_RUN}

_FLOW_PLUS_PLUS: dict[str, Any] = {
    "source": "Ho et al. 2019, Flow++, table 1 and the authors' code",
    "metric": "bits_per_dim",
    "error": None,
    "differs": "units are rectified, not concatenated ELUs, so that networks have two "
    "thirds of the weights; these are not normalised, and outputs of the networks are "
    "multiplied by a number below 1; the noise of the dequantisation sees the image "
    "itself, not features of it; how long it trained is not said",
}

_RESIDUAL_RUN = {
    "batch_size": 64,
    "learning_rate": 1e-3,
    "decay": "none",
    "average": 0.999,
    "epochs": 1000,
}
_RESIDUAL: dict[str, Any] = {
    "source": "Chen et al. 2019, Residual Flows, table 1 and the authors' code",
    "metric": "bits_per_dim",
    "error": None,
    "differs": "no fully connected blocks at the end; images are not flipped",
}
# The rate rises in 1000 steps.
_RESIDUAL_MNIST = {"warmup": 1000 / 844, **_RESIDUAL_RUN}
_RESIDUAL_CIFAR = {"warmup": 1000 / 704, **_RESIDUAL_RUN}

RECIPES: tuple[Recipe, ...] = (
    _spline("power", (0.64, 0.01), layers=10, depth=2, width=256, dropout=0.0),
    _spline("gas", (13.09, 0.02), layers=10, depth=2, width=256, dropout=0.1),
    _spline(
        "hepmass",
        (-14.75, 0.03),
        layers=20,
        depth=1,
        width=128,
        dropout=0.2,
        batch_size=256,
    ),
    _spline(
        "miniboone",
        (-9.67, 0.47),
        layers=10,
        depth=1,
        width=32,
        bins=4,
        dropout=0.2,
        batch_size=128,
        learning_rate=3e-4,
        steps=200_000,
    ),
    _spline("bsds300", (157.54, 0.28), layers=20, depth=1, width=128, dropout=0.2),
    *(
        _affine(data, flow, layers)
        for data, (_, results) in _AFFINE.items()
        for flow, layers in results
    ),
    Recipe(
        "mnist",
        "nice",
        1980.50,
        None,
        "Dinh et al. 2014, NICE, section 5.1",
        {"batch_size": 200, "learning_rate": 1e-3, "decay": "none", "epochs": 1500},
        {"layers": 4, "depth": 5, "width": 1000, "logit_margin": None},
        "Adam's second moment has momentum 0.999, not 0.01; the size of batches is not "
        "said",
        metric="log_likelihood_unit",
    ),
    Recipe(
        "cifar10",
        "real_nvp",
        3.49,
        None,
        "Dinh et al. 2017, Real NVP, table 1 and section 4.1",
        {"batch_size": 64, "learning_rate": 1e-3, "decay": "none", "epochs": 1000},
        {"levels": 2, "layers": 3, "depth": 8, "width": 64, "logit_margin": 0.05},
        "weights are not normalised, so their scales are not penalised; images are not "
        "flipped; how long it trained is not said",
        metric="bits_per_dim",
    ),
    Recipe(
        "cifar10",
        "glow",
        3.35,
        settings=_GLOW_32,
        flow_options={"levels": 3, "steps": 32, "width": 512, "logit_margin": None},
        **_GLOW,
    ),
    Recipe(
        _IMAGENET_32,
        "glow",
        4.09,
        settings=_GLOW_32,
        flow_options={"levels": 3, "steps": 48, "width": 512, "logit_margin": None},
        **_GLOW,
    ),
    Recipe(
        _IMAGENET_64,
        "glow",
        3.81,
        settings=_GLOW_64,
        flow_options={"levels": 4, "steps": 48, "width": 512, "logit_margin": None},
        **_GLOW,
    ),
    Recipe(
        "cifar10",
        "flow_plus_plus",
        3.08,
        settings={
            "batch_size": 64,
            "learning_rate": 3e-4,
            "warmup": 2000 / 704,
            "decay": "none",
            "average": 0.999,
            "clip_norm": 1.0,
            "epochs": 1000,
        },
        flow_options={
            "layers": [4, 2, 3],
            "depth": 10,
            "width": 96,
            "heads": 4,
            "components": 32,
            "dropout": 0.2,
            "dequantize": {"name": "variational", "width": 96},
            "logit_margin": 0.05,
        },
        parameters=31_443_440,
        **_FLOW_PLUS_PLUS,
    ),
    Recipe(
        _IMAGENET_64,
        "tarflow",
        2.99,
        None,
        "Zhai et al. 2024, TarFlow, table 1 and the authors' code",
        {
            "batch_size": 256,
            "learning_rate": 1e-4,
            "warmup": 1.0,
            "decay": "step",
            "weight_decay": 1e-4,
            "epochs": 100,
        },
        {
            "layers": 8,
            "depth": 8,
            "width": 768,
            "patch": 2,
            "scale": "exp",
            "logit_margin": None,
            "recompute_gradients": True,
        },
        "the first token of a block changes, too; Adam's second moment has momentum "
        "0.999, not 0.95; the rate falls to 0, not to 1e-6; images are not flipped",
        metric="bits_per_dim",
    ),
    Recipe(
        _IMAGENET_64,
        "jet",
        3.72,
        None,
        "Kolesnikov et al. 2024, Jet, and the authors' configuration of 32 couplings",
        {
            "batch_size": 1024,
            "learning_rate": 3e-4,
            "warmup": 20.0,
            "decay": "step",
            "clip_norm": 1.0,
            "weight_decay": 1e-5,
            "epochs": 200,
        },
        {
            "layers": 32,
            "depth": 2,
            "width": 512,
            "heads": 8,
            "patch": 4,
            "logit_margin": None,
            "recompute_gradients": True,
        },
        "log-scales are bounded by 2 where the paper multiplies by twice a sigmoid; "
        "Adam's second moment has momentum 0.999, not 0.95",
        metric="bits_per_dim",
    ),
    Recipe(
        "mnist",
        "residual_flow",
        0.970,
        settings=_RESIDUAL_MNIST,
        flow_options={
            "levels": 3,
            "layers": 16,
            "width": 512,
            "coefficient": 0.98,
            "logit_margin": 1e-6,
        },
        **_RESIDUAL,
    ),
    Recipe(
        "cifar10",
        "residual_flow",
        3.280,
        settings=_RESIDUAL_CIFAR,
        flow_options={
            "levels": 3,
            "layers": 16,
            "width": 512,
            "coefficient": 0.98,
            "logit_margin": 0.05,
        },
        **_RESIDUAL,
    ),
)
