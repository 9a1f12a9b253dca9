"""What a run is made of: given, continued from a run, or suited to the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfp_flows import datasets
from tfp_flows.core.arguments import check_choice, check_integer, check_number

__all__ = ["Settings"]

# Images of at most so many pixels are small.
_SMALL = 16 * 16

# What suits two CPU cores: settings of the run, and options of the flow. What is not
# here is the default of `Settings`, or of the flow, which is its paper's.
_Recipes = dict[str, tuple[dict[str, Any], dict[str, Any]]]
_VECTORS: _Recipes = {
    "nice": ({"epochs": 50}, {"width": 256}),
    "real_nvp": ({"epochs": 60}, {"width": 128}),
    "planar": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 32}),
    "radial": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 32}),
    "sylvester": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 16}),
    "residual_flow": (
        {"epochs": 60, "learning_rate": 5e-3},
        {"layers": 6, "width": 64},
    ),
    "ffjord": ({"epochs": 60, "learning_rate": 2e-3}, {}),
    "maf": ({"epochs": 60, "learning_rate": 2e-3}, {"layers": 8, "width": 64}),
    "naf": ({"epochs": 40}, {"width": 64}),
    "iaf": ({"epochs": 60, "learning_rate": 2e-3}, {"width": 64}),
    "neural_spline_flow": ({"epochs": 40}, {"layers": 4, "width": 64}),
    "flow_plus_plus": (
        {"epochs": 40},
        {"layers": 6, "width": 64, "components": 8},
    ),
}
_SMALL_IMAGES: _Recipes = {
    "nice": ({"epochs": 100}, {"width": 200}),
    "real_nvp": ({"epochs": 60}, {"width": 32, "depth": 2}),
    "glow": ({"epochs": 60}, {"steps": 8, "width": 64}),
    "planar": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 32}),
    "radial": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 32}),
    "sylvester": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 8, "columns": 32}),
    "residual_flow": (
        {"epochs": 30, "learning_rate": 5e-3},
        {"layers": 1, "width": 32},
    ),
    "ffjord": ({"epochs": 30}, {"width": 128}),
    "maf": ({"epochs": 60}, {"width": 256}),
    "naf": ({"epochs": 20}, {"layers": 2}),
    "iaf": ({"epochs": 20}, {"layers": 2, "width": 256}),
    "neural_spline_flow": ({"epochs": 40}, {"layers": 4, "width": 128}),
    "flow_plus_plus": (
        {"epochs": 30},
        {"layers": 2, "width": 32, "depth": 2, "components": 4},
    ),
}
_IMAGES: _Recipes = {
    # In the paper, MNIST is modelled without a logit.
    "nice": (
        {"epochs": 25, "batch_size": 200, "learning_rate": 5e-4},
        {"logit_margin": None},
    ),
    "real_nvp": ({}, {"width": 32, "depth": 2}),
    "glow": ({}, {"steps": 8, "width": 64}),
    "flow_plus_plus": (
        {},
        {"width": 32, "depth": 2, "components": 8, "logit_margin": None},
    ),
}

# The option for the margin of the logit of pixels.
_MARGIN = "logit_margin"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines the result of a run. `suited` is the usual way to make one.

    Attributes:
      data: what `tfp_flows.datasets.load` takes, as text.
      flow: name of a ready flow.
      flow_options: its keyword arguments, but for `seed`.
      conditional: whether labels are the context.
      epochs: passes over the training data.
      batch_size: examples in a batch.
      learning_rate: Adam's at the start; it falls to 0 along a cosine, epoch by epoch.
      clip_norm: bound on the norm of the gradient, or `None`.
      validation: fraction of the training data held out to choose the best epoch by,
        where the data bring no validation split.
      tidy: whether constant columns of a table are left out, and those of whole numbers
        get noise; see `tfp_flows.datasets.load`.
      temperature: of the samples that are drawn at the end.
      seed: of weights, noise and order.
      jit: whether XLA compiles the training step.
      data_dir: where TensorFlow Datasets keeps its data, or `None` for its default.
      fingerprint: what the data were, see `DataSource.fingerprint`; `None` if nobody
        looked.
    """

    data: str
    flow: str
    flow_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    conditional: bool = False
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    clip_norm: float | None = None
    validation: float = 0.1
    tidy: bool = False
    temperature: float = 1.0
    seed: int = 0
    jit: bool = False
    data_dir: str | None = None
    fingerprint: Mapping[str, Any] | None = None

    @classmethod
    def suited(
        cls,
        data: str,
        flow: str,
        *,
        flow_options: Mapping[str, Any] | None = None,
        source: datasets.DataSource | None = None,
        **given: Any,
    ) -> Settings:
        """Settings that suit the data, where none are given.

        The shape and dtype of the data decide: vectors, small images, images; with
        bounds, as 8-bit pixels have, or without. Neither a name nor the ending of a
        file does.

        Args:
          data: what `tfp_flows.datasets.load` takes, as text.
          flow: name of a ready flow.
          flow_options: arguments of the flow; they go before what would suit.
          source: the data, if they are loaded already.
          **given: other fields; likewise.

        Raises:
          ValueError: on an option that does not go with the data: labels or bounds
            that they do not have.
        """
        plain = cls(data, flow, **given)
        source = plain.load_data() if source is None else source
        run, options = _recipe(source, flow)
        options.update(flow_options or {})
        if source.bounds:
            options["bounds"] = list(source.bounds)
        elif options.get(_MARGIN) is not None:
            raise ValueError(
                f"{_MARGIN} is for data with bounds, such as 8-bit images; "
                f"{source.name} has none."
            )
        if plain.conditional:
            if source.num_classes is None:
                raise ValueError(
                    f"a conditional flow needs labels, and {source.name} has none."
                )
            options["num_classes"] = source.num_classes
        return dataclasses.replace(
            plain,
            **{name: value for name, value in run.items() if name not in given},
            flow_options=options,
            fingerprint=source.fingerprint(),
        )

    def continued(
        self,
        data: str,
        flow: str,
        *,
        flow_options: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Settings:
        """These settings of a run, with those that are given in their place."""
        options = {**self.flow_options, **(flow_options or {})}
        return dataclasses.replace(
            self, data=data, flow=flow, flow_options=options, **given
        )

    def check_types(self) -> None:
        """Raises an error if a field is of a wrong type, as in a file that was edited.

        Raises:
          TypeError: naming the field.
          ValueError: if a number is out of range.
        """
        for name in ("data", "flow", "data_dir"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name != "data_dir" or value is not None):
                raise TypeError(f"{name} must be text, got {value!r}.")
        for name in ("flow_options", "fingerprint"):
            value = getattr(self, name)
            optional = name == "fingerprint" and value is None
            if not isinstance(value, Mapping) and not optional:
                raise TypeError(f"{name} must be a mapping, got {value!r}.")
        for name in ("conditional", "tidy", "jit"):
            check_choice(name, getattr(self, name), (False, True))
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            check_integer(name, getattr(self, name), least)
        for name in ("learning_rate", "temperature", "clip_norm"):
            if name != "clip_norm" or self.clip_norm is not None:
                check_number(name, getattr(self, name), above=0.0)
        check_number("validation", self.validation, at_least=0.0, below=1.0)

    def load_data(self) -> datasets.DataSource:
        """The data of the run, in the same splits every time."""
        return datasets.load(
            self.data,
            data_dir=self.data_dir,
            validation=self.validation,
            seed=self.seed,
            tidy=self.tidy,
        )

    def differences(self, others: Settings) -> list[str]:
        """What stands in the way of continuing a run of `others` with these settings.

        The number of epochs, the temperature and where the data lie may differ, but not
        what they are.
        """
        free = {"epochs", "temperature", "data_dir", "data", "fingerprint"}
        if others.fingerprint is None:
            free.remove("data")
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(others)
        return [
            f"{name}={theirs[name]!r} (now {ours[name]!r})"
            for name in ours
            if name not in free and ours[name] != theirs[name]
        ]


def _recipe(
    source: datasets.DataSource, flow: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `Settings`, and arguments of a flow, that suit some data."""
    if len(source.event_shape) == 1:
        run, options = _VECTORS.get(flow, ({}, {}))
        return dict(run), dict(options)
    height, width, _ = source.event_shape
    if height * width <= _SMALL:
        run, options = _SMALL_IMAGES.get(flow, ({}, {}))
        run = {"batch_size": 64, **run}
    else:
        run, options = _IMAGES.get(flow, ({}, {}))
        clip = {} if flow == "nice" else {"clip_norm": 100.0}
        run = {"epochs": 20, **clip, **run}
    margin = {_MARGIN: 0.05, **options}.pop(_MARGIN) if source.bounds else None
    return run, {**options, _MARGIN: margin}
