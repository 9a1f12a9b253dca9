"""What a run is made of: given, continued from a run, or suited to the data."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfp_flows import datasets, flows
from tfp_flows.command import recipes, tables
from tfp_flows.core.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_unused,
)

__all__ = ["DECAYS", "OBJECTIVES", "Settings"]

# Images of at most so many pixels are small; tables of at most so many rows have few.
_SMALL = 16 * 16
_FEW_ROWS = 5000

# Where rows are few, a flow of a table starts from a mixture, see `_suiting_start`, and
# has to be moved gently: at a rate of 5e-4 its first steps lost more than it regained.
_OF_FEW_ROWS = {"epochs": 200, "learning_rate": 2e-4, "decay": "none"}

# What suits two CPU cores: settings of the run, and options of the flow. What is not
# here is the default of `Settings`, or of the flow, which is its paper's.
_Suited = dict[str, tuple[dict[str, Any], dict[str, Any]]]
_VECTORS: _Suited = {
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
    "bnaf": (
        {"epochs": 40, "learning_rate": 1e-2},
        {"layers": 4, "width": 16, "depth": 2},
    ),
    "gaussianization": (
        {"epochs": 40, "learning_rate": 5e-3},
        {"layers": 8, "components": 24},
    ),
    "iaf": ({"epochs": 60, "learning_rate": 2e-3}, {"width": 64}),
    "neural_spline_flow": ({"epochs": 40}, {"layers": 4, "width": 64}),
    "flow_plus_plus": (
        {"epochs": 40},
        {"layers": 6, "width": 64, "components": 8},
    ),
    "tarflow": ({"epochs": 40}, {"width": 32}),
    "torus": ({"epochs": 40}, {}),
    "sphere": ({"epochs": 40}, {}),
    "simplex": ({"epochs": 40}, {"layers": 4, "width": 64}),
}
_SMALL_IMAGES: _Suited = {
    "nice": ({"epochs": 100}, {"width": 200}),
    "real_nvp": ({"epochs": 60}, {"width": 32, "depth": 2}),
    "glow": ({"epochs": 60}, {"steps": 8, "width": 64}),
    # Few planes, or small steps, cannot spread a spike of black pixels.
    "planar": (
        {"epochs": 60, "learning_rate": 5e-3},
        {"layers": 32, "logit_margin": 0.05},
    ),
    "radial": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 32}),
    "sylvester": ({"epochs": 60, "learning_rate": 5e-3}, {"layers": 8, "columns": 32}),
    "residual_flow": (
        {"epochs": 30, "learning_rate": 5e-3},
        {"layers": 1, "width": 32, "logit_margin": 0.05},
    ),
    "ffjord": ({"epochs": 30}, {"width": 128}),
    "maf": ({"epochs": 60}, {"width": 256}),
    "naf": ({"epochs": 20}, {"layers": 2}),
    "bnaf": ({"epochs": 30, "learning_rate": 1e-2}, {"layers": 3, "width": 8}),
    "gaussianization": (
        {"epochs": 30, "learning_rate": 5e-3},
        {"layers": 4, "components": 8},
    ),
    "iaf": ({"epochs": 20}, {"layers": 2, "width": 256}),
    "neural_spline_flow": ({"epochs": 40}, {"layers": 4, "width": 128}),
    "flow_plus_plus": (
        {"epochs": 30},
        {"layers": 2, "width": 32, "depth": 2, "components": 4},
    ),
    # Affine transformers begin slowly behind a small margin.
    "tarflow": (
        {"epochs": 60},
        {"width": 64, "depth": 2, "logit_margin": 0.05},
    ),
    "jet": (
        {"epochs": 60, "learning_rate": 3e-3},
        {"width": 64, "depth": 1, "layers": 10, "logit_margin": 0.05},
    ),
}
_IMAGES: _Suited = {
    "nice": ({"epochs": 25, "batch_size": 200, "learning_rate": 5e-4}, {}),
    "real_nvp": ({"batch_size": 64}, {"width": 32, "depth": 2}),
    "glow": ({"batch_size": 64}, {"steps": 8, "width": 64}),
    "flow_plus_plus": (
        {"batch_size": 64, "epochs": 8},
        {"layers": 2, "width": 32, "depth": 2, "components": 8, "heads": 0},
    ),
    "tarflow": ({}, {"width": 64, "depth": 2, "logit_margin": None}),
    "jet": ({}, {"width": 64, "depth": 1, "layers": 10, "logit_margin": None}),
}

# The option for the margin of the logit of pixels.
_MARGIN = "logit_margin"

DECAYS = ("epoch", "step", "none")
OBJECTIVES = ("likelihood", "flow_matching")

# Fields that may be `None`; lowest values of whole numbers; bounds of other numbers.
_OPTIONAL = ("epoch_steps", "clip_norm", "weight_decay", "average", "patience")
_INTEGERS = {
    "member": 0,
    "epochs": 1,
    "epoch_steps": 1,
    "batch_size": 1,
    "patience": 1,
    "seed": 0,
}
_NUMBERS = {
    "learning_rate": {"above": 0.0},
    "warmup": {"at_least": 0.0},
    "clip_norm": {"above": 0.0},
    "weight_decay": {"above": 0.0},
    "average": {"at_least": 0.0, "below": 1.0},
    "validation": {"at_least": 0.0, "below": 1.0},
    "temperature": {"above": 0.0},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What determines the result of a run. `suited` is the usual way to make one.

    Attributes:
      data: what `tfp_flows.datasets.load` takes, as text.
      flow: name of a ready flow.
      flow_options: its keyword arguments, but for `seed`.
      conditional: whether labels are the context.
      recipe: name of the published configuration that it follows, see
        `tfp_flows.command.recipes`, or `None`.
      objective: what is trained: the "likelihood", or by "flow_matching" the velocity
        of a continuous flow, see `tfp_flows.training.FlowMatching`.
      pairing: of noise and data in flow matching, see there; `None` for its default.
      member: 0, or which of an ensemble it is: the seed of weights, noise and order
        differs, but not that of the held-out rows.
      epochs: passes over the training data.
      epoch_steps: training steps that count as an epoch, after each of which the
        validation split is looked at; `None` for a pass over the training data.
      batch_size: examples in a batch.
      learning_rate: Adam's at the start, or where the warm-up ends.
      warmup: epochs in which it rises there from 0, step by step; may be a fraction.
      decay: how it falls to 0 along a cosine: "epoch" by epoch, "step" by step, or
        "none" if it stays.
      clip_norm: bound on the norm of the gradient, or `None`.
      weight_decay: Keras's, of all weights, or `None`.
      average: momentum of the moving average of all weights, step by step, that is
        looked at, kept and saved in place of the weights (Keras's `ema_momentum`), or
        `None`.
      patience: epochs without a better one after which training ends, or `None`.
      validation: fraction of the training data held out to choose the best epoch by,
        where the data bring no validation split.
      tidy: whether constant columns of a table are left out, and those of whole numbers
        get noise; see `tfp_flows.datasets.load`.
      categorical: columns of categories of a table, see there; once the data were
        looked at, a mapping of their names to the categories.
      integer: columns of integers, see there.
      columns: names of the columns of a table, or `None`.
      temperature: of the samples that are drawn at the end.
      seed: of weights, noise and order.
      jit: whether XLA compiles the training step; `None`: after some time, if it is
        faster so.
      data_dir: where TensorFlow Datasets keeps its data, or `None` for its default.
      fingerprint: what the data were, see `DataSource.fingerprint`; `None` if nobody
        looked.
    """

    data: str
    flow: str
    flow_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    conditional: bool = False
    recipe: str | None = None
    objective: str = "likelihood"
    pairing: str | None = None
    member: int = 0
    epochs: int = 100
    epoch_steps: int | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.0
    decay: str = "epoch"
    clip_norm: float | None = None
    weight_decay: float | None = None
    average: float | None = None
    patience: int | None = None
    validation: float = 0.1
    tidy: bool = False
    categorical: bool | Sequence[str] | Mapping[str, Sequence[str]] = False
    integer: bool | Sequence[str] = False
    columns: Sequence[str] | None = None
    temperature: float = 1.0
    seed: int = 0
    jit: bool | None = None
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
          TypeError: if a field is of a wrong type.
          ValueError: on an option that does not go with the data: labels or bounds
            that they do not have; if there is no such recipe, or a number is out of
            range.
        """
        plain = cls(data, flow, **given)
        if plain.recipe is not None:
            recipe = recipes.find(data, flow, plain.recipe)
            run, options = dict(recipe.settings), dict(recipe.flow_options)
        source = plain.load_data() if source is None else source
        if plain.recipe is None:
            run, options = _suiting(source, flow, flow_options or {})
            if plain.warmup:
                run.pop("decay", None)
        if plain.warmup:
            # What falls by whole epochs cannot rise within one.
            run.setdefault("decay", "step")
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
        found: dict[str, Any] = {}
        names = list(source.columns or ())
        # Numbers, of a table without names, say nothing.
        if names != [str(i) for i in range(len(names))]:
            found["columns"] = names
        if source.kinds is not None:
            found["categorical"] = {k: list(v) for k, v in source.categories.items()}
            found["integer"] = list(source.integers)
            options["dequantize"] = _mixed(options.get("dequantize"), source.kinds)
        settings = dataclasses.replace(
            plain,
            **{name: value for name, value in run.items() if name not in given},
            **found,
            flow_options=options,
            fingerprint=source.fingerprint(),
        )
        settings.check_types()
        start = _suiting_start(source, settings)
        return dataclasses.replace(settings, flow_options={**options, **start})

    def continued(
        self,
        data: str,
        flow: str,
        *,
        flow_options: Mapping[str, Any] | None = None,
        **given: Any,
    ) -> Settings:
        """These settings of a run, with those that are given in their place."""
        for name in ("categorical", "integer"):
            # The run knows the categories, too.
            if given.get(name) is True or given.get(name) == list(_names(self, name)):
                del given[name]
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
        for name in ("data", "flow", "recipe", "data_dir"):
            value = getattr(self, name)
            optional = name in ("recipe", "data_dir") and value is None
            if not isinstance(value, str) and not optional:
                raise TypeError(f"{name} must be text, got {value!r}.")
        for name in ("flow_options", "fingerprint"):
            value = getattr(self, name)
            optional = name == "fingerprint" and value is None
            if not isinstance(value, Mapping) and not optional:
                raise TypeError(f"{name} must be a mapping, got {value!r}.")
        for name in ("categorical", "integer", "columns"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, (bool, list, tuple, Mapping))):
                raise TypeError(f"{name} must be names of columns, got {value!r}.")
        for name in ("conditional", "tidy"):
            check_choice(name, getattr(self, name), (False, True))
        check_choice("jit", self.jit, (None, False, True))
        for name, least in _INTEGERS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                check_integer(name, getattr(self, name), least)
        for name, bounds in _NUMBERS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                check_number(name, getattr(self, name), **bounds)
        check_choice("decay", self.decay, DECAYS)
        check_choice("objective", self.objective, OBJECTIVES)
        if self.objective == "likelihood":
            check_unused("for objective='flow_matching'", pairing=self.pairing)
        if self.warmup and self.decay == "epoch":
            raise ValueError(
                f"warmup={self.warmup} needs decay 'step' or 'none': a rate that falls "
                "by whole epochs cannot rise within one."
            )
        if self.decay == "step" and self.warmup >= self.epochs:
            raise ValueError(
                f"warmup must be below epochs={self.epochs}, got {self.warmup}."
            )

    @property
    def training_seed(self) -> int:
        """The seed of all but the data: that of the run, or of one of an ensemble."""
        if not self.member:
            return self.seed
        state = np.random.SeedSequence([self.seed, self.member]).generate_state(1)
        return int(state[0] >> 1)

    def load_data(self) -> datasets.DataSource:
        """The data of the run, in the same splits every time."""
        return datasets.load(
            self.data,
            data_dir=self.data_dir,
            validation=self.validation,
            seed=self.seed,
            tidy=self.tidy,
            categorical=self.categorical,
            integer=self.integer,
        )

    def differences(self, others: Settings) -> list[str]:
        """What stands in the way of continuing a run of `others` with these settings.

        The number of epochs, the patience, the temperature and where the data lie may
        differ, but not what they are.
        """
        free = {"epochs", "patience", "temperature", "data_dir", "data", "fingerprint"}
        free.add("columns")
        if others.fingerprint is None:
            free.remove("data")
        ours, theirs = dataclasses.asdict(self), dataclasses.asdict(others)
        return [
            f"{name}={theirs[name]!r} (now {ours[name]!r})"
            for name in ours
            if name not in free and ours[name] != theirs[name]
        ]


def _names(settings: Settings, field: str) -> Sequence[str]:
    """The names of columns in a field."""
    value = getattr(settings, field)
    return () if isinstance(value, bool) else list(value)


def _mixed(given: Any, kinds: list[Any]) -> dict[str, Any]:
    """The option `dequantize` of a flow of a table of which columns are declared."""
    name = given.get("name", "mixed") if isinstance(given, Mapping) else given
    if name not in (None, "mixed"):
        raise ValueError(
            f"dequantize must be mixed for a table with categorical or integer "
            f"columns, got {name!r}."
        )
    options = given if isinstance(given, Mapping) else {}
    return {"name": "mixed", **options, "columns": kinds}


def _suiting(
    source: datasets.DataSource, flow: str, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of `Settings`, and arguments of a flow but the given, that suit data."""
    if tables.is_table(source):
        run, options = _VECTORS.get(flow, ({}, {}))
        if source.sizes["train"] <= _FEW_ROWS:
            run = {**run, **_OF_FEW_ROWS}
            if source.sizes["validation"]:
                run["patience"] = 20
        return dict(run), dict(options)
    height, width, _ = source.event_shape
    if height * width <= _SMALL:
        run, options = _SMALL_IMAGES.get(flow, ({}, {}))
        run = {"batch_size": 64, **run}
    else:
        run, options = _IMAGES.get(flow, ({}, {}))
        clip = {} if flow == "nice" else {"clip_norm": 100.0}
        run = {"epochs": 20, **clip, **run}
    if source.bounds and _MARGIN not in {**options, **given}:
        options = {**options, _MARGIN: _suiting_margin(source, *source.bounds)}
    return run, dict(options)


def _suiting_start(source: datasets.DataSource, settings: Settings) -> dict[str, Any]:
    """What lets a flow of a table start as the mixture of Gaussians that suits it.

    On few rows a flow learns less than a mixture does; from there it can only gain, and
    the epoch that held-out rows like best is kept. `benchmarks/tables.py` measures it.
    """
    build, options = flows.READY.get(settings.flow), settings.flow_options
    if (
        settings.recipe is not None
        or not tables.is_table(source)
        or build is None
        or not {"base", "normalize"} <= inspect.signature(build).parameters.keys()
        or {"base", "bounds"} & options.keys()
        or source.kinds is not None
        or settings.objective != "likelihood"
    ):
        return {}
    # A wrong option is told before the seconds that a mixture takes.
    build(source.event_shape, **options, seed=0)
    return tables.suited_start(source, options.get("normalize"), settings.seed)


def _suiting_margin(source: datasets.DataSource, low: float, high: float) -> float:
    """A margin of the logit of pixels.

    Black pixels with noise are a thin spike behind a margin of 0.05, which couplings
    have to stretch, and as wide as all others behind a small one: bits per dimension of
    a Glow on MNIST after two minutes were 3.7 and 1.6. Photographs have few of them,
    and train slightly better with the wide margin, which hardly bends them.
    """
    x = source.arrays("train", limit=1000)[0]
    share = np.mean((x == low) | (x == high - 1))
    return 1e-6 if share > 0.1 else 0.05
