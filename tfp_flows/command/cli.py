"""The command line: `tfp-flows train | evaluate | sample | info | flows`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_flows import datasets, plots
from tfp_flows.command import (
    ensemble,
    files,
    parser,
    progress,
    recipes,
    tables,
    train,
)
from tfp_flows.command.evaluate import evaluate
from tfp_flows.command.flow_options import ready_flows
from tfp_flows.command.settings import Settings
from tfp_flows.command.text import printable
from tfp_flows.distributions import MixedDequantization

__all__ = ["main"]


class UserError(Exception):
    """A mistake that the user can put right."""


class Failed(Exception):
    """A run that came to its end, but to none that is good for anything."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; those of the process by default.

    Returns:
      The exit code: 0; 1 if training diverged, or ended far below a Gaussian, or below
      uniform noise; 2 for a mistake of the user's; 130 if interrupted.
    """
    arguments = parser.parse(sys.argv[1:] if argv is None else list(argv))
    try:
        with _warnings_as_lines():
            if not parser.answer(arguments):
                _COMMANDS[arguments.command](arguments)
    except UserError as error:
        return _fail(2, f"error: {error}")
    except (FloatingPointError, Failed) as error:
        return _fail(1, f"error: {error}")
    except progress.Interrupted as error:
        return _fail(130, str(error))
    except KeyboardInterrupt:
        return _fail(130, "interrupted")
    except BrokenPipeError:
        # The reader of our output has left, as `head` does.
        sys.stderr.close()
        return 1
    return 0


def _fail(code: int, message: str) -> int:
    """Prints a message in one line."""
    if code != 2 and sys.stdout.isatty():
        # Leaves an unfinished progress bar.
        print()
    _note(message)
    return code


def _note(message: str) -> None:
    """Prints one line on stderr."""
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"tfp-flows: {printable(line)}", file=sys.stderr)


def _say(text: str) -> None:
    print(printable(text))


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Shows warnings about the user's data in one line each, and once."""
    show, said = warnings.showwarning, set()

    def note(message, category, *where, **more):
        if issubclass(category, UserWarning):
            # A flow is built again when its model is loaded.
            if str(message) not in said:
                _note(f"warning: {message}")
            said.add(str(message))
        else:
            show(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.showwarning = note
        yield


# Commands.


def _train(arguments: argparse.Namespace) -> None:
    directory = Path(
        arguments.output or Path("runs") / f"{_stem(arguments.data)}-{arguments.flow}"
    )
    resume = arguments.resume or arguments.resume_best
    with _user_errors():
        files.check_directory(directory, resume, arguments.overwrite)
        count = ensemble.count(directory, arguments.ensemble, resume)
        if count is None:
            settings, source = _settings(arguments, directory, resume)
    if count is None:
        _train_one(arguments, directory, settings, source, resume)
        return
    for i in range(count):
        member = directory / ensemble.name(i)
        with _user_errors():
            goes_on = resume and (member / files.SETTINGS).exists()
            first = directory / ensemble.name(0) if resume else member
            # A member that is new follows the settings of the first.
            settings, source = _settings(
                arguments, member if goes_on else first, resume
            )
            settings = dataclasses.replace(settings, member=i)
        _say(f"member {i + 1} of {count}")
        _train_one(arguments, member, settings, source, goes_on)
    with _user_errors():
        report = ensemble.finish(
            directory, count, source, settings, arguments.command_line
        )
    _say(f"{count} members in {directory}, mixed as one density:")
    _say(_result_lines(report["results"], source))
    _say(
        f"  members alone: {report['mean']:.4f} nats, standard deviation "
        f"{report['deviation']:.4f}"
    )
    _say_recipe(report)


def _train_one(
    arguments: argparse.Namespace,
    directory: Path,
    settings: Settings,
    source: datasets.DataSource,
    resume: bool,
) -> None:
    """Trains a flow in a directory of its own."""
    with _user_errors():
        run = train.prepare(
            settings,
            directory,
            resume=resume,
            resume_best=resume and arguments.resume_best,
            overwrite=arguments.overwrite,
            source=source,
        )
    _say(
        f"{arguments.flow} with {run.parameters:,} parameters on {source.name}: "
        f"{source.sizes['train']:,} examples of shape {list(source.event_shape)}"
    )
    about = datasets.tfds_sets.about_set(settings.data)
    if about is not None:
        _say(f"{source.name}: {about}")
    _say(f"settings: {_describe(settings)}")
    for line in _about_recipe(settings):
        _say(line)
    with _user_errors(OSError):
        report = train.carry_out(
            run,
            command=arguments.command_line,
            verbose=arguments.verbose,
            say=_say,
        )
    written = ", ".join(sorted(path.name for path in directory.iterdir()))
    _say(f"{report['training']['epochs']} epochs in {directory}: {written}")
    _say(_result_lines(report["results"], source))
    drawn, finite = report["samples"].values()
    if finite < drawn:
        _say(f"  {drawn - finite} of {drawn} samples were not finite and are left out")
    _say_recipe(report)
    _compare(report)
    _compare_with_uniform(report)


def _evaluate(arguments: argparse.Namespace) -> None:
    with _user_errors():
        paths, model = _models(arguments.model)
        settings = _settings_beside(paths[0])
        source = _data(arguments, settings)
        results = evaluate(model, source, arguments.split, settings)
    _say(_result_lines(results, source))


def _sample(arguments: argparse.Namespace) -> None:
    with _user_errors():
        # What needs no model, which takes seconds to load.
        output = Path(arguments.output or "samples.npy")
        if output.suffix not in (".png", ".npy", ".csv"):
            raise UserError(f"--output must end in .png, .npy or .csv, got {output}")
        if not output.parent.is_dir():
            raise UserError(f"there is no directory {output.parent}")
        paths, models = _models(arguments.model)
        flow = models[0].flow
        is_image = len(flow.event_shape) == 3
        if arguments.output is None:
            if is_image:
                output = Path("samples.png")
            elif isinstance(flow, MixedDequantization):
                output = Path("samples.csv")
        if output.suffix == ".png" and not is_image:
            raise UserError(
                f"--output {output}: the model is over vectors; write them to .npy or "
                ".csv"
            )
        if output.suffix == ".csv" and is_image:
            raise UserError(
                f"--output {output}: the model is over images; write them to .png or "
                ".npy"
            )
        if output.exists() and not arguments.overwrite:
            raise UserError(f"{output} exists: give --overwrite to replace it")
        x = ensemble.sample(
            models,
            arguments.n,
            temperature=arguments.temperature,
            label=arguments.label,
            guidance=arguments.guidance,
            attention_temperature=arguments.attention_temperature,
            seed=arguments.seed,
        )
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        if not finite.all():
            _say(f"{np.sum(~finite)} of {len(x)} samples were not finite: left out")
            x = x[finite]
        with files.replacing(output) as partial:
            if output.suffix == ".png":
                bounds = (flow.config or {}).get("bounds")
                plots.images(x, bounds=bounds, path=partial)
            elif output.suffix == ".csv":
                settings = _settings_beside(paths[0])
                columns = None if settings is None else settings.columns
                files.write_table(partial, flow, x, columns)
            else:
                np.save(partial, x)
    _say(f"{len(x)} samples of shape {list(x.shape[1:])} in {output}")


def _info(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        for name, version in train.versions().items():
            _say(f"{name:<24}{version}")
        _say(f"{'flows':<24}{', '.join(ready_flows())}")
        _say(f"{'toys':<24}{', '.join(datasets.TOYS)}")
        _say(f"{'tables of papers':<24}{', '.join(datasets.tabular.TABLES)}")
        _say(
            f"{'image sets':<24}digits, mnist, fashion_mnist, cifar10, celeb_a, ... "
            "(TensorFlow Datasets)"
        )
        return
    with _user_errors():
        model = files.load_model(arguments.model)
    model.summary(print_fn=_say)
    for name, value in model.get_config()["flow"].items():
        _say(f"{name:<24}{value}")


_COMMANDS = {
    "train": _train,
    "evaluate": _evaluate,
    "sample": _sample,
    "info": _info,
}


# Pieces.


def _models(path: str) -> tuple[list[Any], list[Any]]:
    """The path of a run and its model, or those of the members of an ensemble."""
    paths: list[Any] = [*ensemble.members(Path(path))] or [path]
    return paths, [files.load_model(path) for path in paths]


def _stem(data: str) -> str:
    """A name for the directory of a run: that of a file without its ending."""
    name = Path(data).name
    lower = name.lower()
    for ending in sorted(datasets.FILE_FORMATS, key=len, reverse=True):
        if lower.endswith(ending):
            return name[: -len(ending)]
    return name.replace(":", "-")


def _settings(
    arguments: argparse.Namespace, directory: Path, resume: bool
) -> tuple[Settings, datasets.DataSource]:
    """Settings from what is given, the run to resume, or what suits the data."""
    given = {
        field.name: value
        for field in dataclasses.fields(Settings)
        if (value := getattr(arguments, field.name, None)) is not None
    }
    if resume:
        settings = files.read_settings(directory).continued(**given)
        return settings, settings.load_data()
    # What to load does not depend on the rest.
    plain = Settings(**{k: v for k, v in given.items() if k != "flow_options"})
    if plain.recipe is not None:
        # A mistake there should not wait for the data.
        recipes.find(plain.data, plain.flow, plain.recipe)
    source = plain.load_data()
    return Settings.suited(**given, source=source), source


def _settings_beside(model: str | Path) -> Settings | None:
    path = Path(model)
    directory = path if path.is_dir() else path.parent
    if (directory / files.SETTINGS).exists():
        return files.read_settings(directory)
    return None


def _data(
    arguments: argparse.Namespace, settings: Settings | None
) -> datasets.DataSource:
    if settings is None:
        if arguments.data is None:
            raise UserError("the model lies in no run's directory: give --data")
        settings = Settings(data=arguments.data, flow="")
    if arguments.data is not None:
        settings = dataclasses.replace(settings, data=arguments.data)
    if arguments.data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=arguments.data_dir)
    return settings.load_data()


def _result_lines(results: Mapping[str, Any], source: datasets.DataSource) -> str:
    bounds, is_mixed = source.bounds, source.kinds is not None
    # A lower bound in the mean, of which evaluation takes a tight one.
    least = "at least " if results["exactness"] == "bound" else ""
    lines = [
        f"{results['split']} ({results['examples']:,} examples): log-likelihood {least}"
        f"{results['log_likelihood']:.4f} +/- {results['standard_error']:.4f} nats"
    ]
    if is_mixed:
        lines[0] += " per row: a bound, of probabilities of categories and integers"
    elif bounds:
        low, high = (int(b) for b in bounds)
        lines[0] += (
            f" per example, {results['bits_per_dim']:.4f} bits per dimension "
            f"(pixels {low}..{high - 1} as stored)"
        )
        if "log_likelihood_unit" in results:
            unit = results["log_likelihood_unit"]
            lines.append(f"  with pixels scaled to [0, 1]: {unit:.2f} nats")
    else:
        lines[0] += f", {results['bits_per_dim']:.4f} bits per dimension"
    if "estimator_standard_error" in results:
        error = results["estimator_standard_error"]
        lines.append(f"  of which the estimate of the log-determinant: {error:.4f}")
    if "kl" in results:
        lines.append(
            f"  KL divergence from the exact density: {results['kl']:.4f} +/- "
            f"{results['kl_standard_error']:.4f} nats"
        )
    return "\n".join(lines)


def _about_recipe(settings: Settings) -> Iterator[str]:
    """What a run follows, and in what it does not."""
    if settings.recipe is None:
        return
    recipe = recipes.find(settings.data, settings.flow, settings.recipe)
    yield f"recipe {recipe.name}: {recipe.source}: {recipe.result}"
    if recipe.differs:
        yield f"  not as there: {recipe.differs}"
    given = {**dataclasses.asdict(settings), **settings.flow_options}
    theirs = {**recipe.settings, **recipe.flow_options}
    changed = [f"{k}={given[k]}" for k, v in theirs.items() if given[k] != v]
    if changed:
        yield f"  changed here: {', '.join(changed)}"


def _say_recipe(report: Mapping[str, Any]) -> None:
    """Sets a result beside the published one."""
    found = report.get("recipe")
    if found is None:
        return
    error = "" if found["error"] is None else f" +/- {found['error']:.2f} (two errors)"
    _say(
        f"  published: {found['published']:.2f}{error} {recipes.UNITS[found['metric']]}"
        f"; here {found['difference']:+.2f}"
    )


def _compare(report: Mapping[str, Any]) -> None:
    """Sets the flow of a table beside simpler densities.

    Raises:
      Failed: if it is far below a Gaussian.
    """
    found = report.get("baselines") or {}
    if not found:
        return
    gaussian = found["gaussian"]
    of_what = ""
    if report["data"].get("categories"):
        of_what = " of the numbers, times frequencies of the categories,"
    texts = [f"a Gaussian{of_what} has {gaussian['log_likelihood']:.4f}"]
    if "mixture" in found:
        texts.append(
            f"a mixture of {found['mixture']['components']} Gaussians "
            f"{found['mixture']['log_likelihood']:.4f}"
        )
    _say(f"  {', '.join(texts)} nats")
    constant = ", ".join(report["data"]["columns"].get("constant", [])[:5])
    if constant:
        _say(
            f"  that a flow is above them says nothing: {constant} is constant, where "
            "its density has no bound and theirs is that of a standard normal"
        )
    features = report["data"]["event_shape"][0]
    verdict = tables.shortfall(report["results"], gaussian, features)
    if verdict is None:
        return
    text = (
        f"the flow is {verdict} a Gaussian of the same data, "
        f"{report['results']['log_likelihood']:.4f} against "
        f"{gaussian['log_likelihood']:.4f} nats: train longer, with a lower "
        "--learning-rate or a --clip-norm, or another flow"
    )
    if verdict == "below":
        _say(f"  {text}")
        return
    if constant:
        text += f"; leave out what is constant ({constant})"
    raise Failed(f"{text}; features with rare large values need a logarithm first")


def _compare_with_uniform(report: Mapping[str, Any]) -> None:
    """Sets the flow of bounded data, such as images, beside noise within the bounds.

    Raises:
      Failed: if it is worse.
    """
    bounds = report["data"]["bounds"]
    if bounds is None:
        return
    mine = report["results"]["log_likelihood"]
    uniform = -math.prod(report["data"]["event_shape"]) * math.log(
        bounds[1] - bounds[0]
    )
    # NaN is worse too.
    if not mine >= uniform:
        raise Failed(
            f"the flow is worse than uniform noise, {mine:.4f} against {uniform:.4f} "
            "nats: train longer, with a lower --learning-rate or a --clip-norm, or "
            "another flow"
        )


def _describe(settings: Settings) -> str:
    shown = dataclasses.asdict(settings)
    shown.update(shown.pop("flow_options"))
    for name in ("categorical", "integer"):
        shown[name] = ",".join(shown[name] or ()) or None
    if settings.categorical or settings.integer:
        mixed = dict(shown.pop("dequantize"))
        del mixed["columns"]
        shown["dequantize"] = mixed
    return ", ".join(
        f"{name}={value}"
        for name, value in shown.items()
        if name not in ("data", "flow", "fingerprint", "columns")
        and (value or name not in ("member", "warmup"))
        and value is not None
        and value is not False
    )


@contextlib.contextmanager
def _user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turns the errors that wrong input raises, or those given, into one line."""
    kinds = kinds or (
        ValueError,
        TypeError,
        OSError,
        datasets.DatasetUnavailableError,
    )
    try:
        yield
    except BrokenPipeError:
        raise
    except kinds as error:
        raise UserError(error) from error
