"""The command line: `tfp-flows train | evaluate | sample | info`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfp_flows import datasets, flows, plots
from tfp_flows._version import __version__
from tfp_flows.command import runs
from tfp_flows.command.recipes import recipe

__all__ = ["main"]

FLOWS = tuple(flows.READY)

# Options of the flows, which are their keyword arguments.
_FLOW_OPTIONS = {
    "couplings": (int, "number of couplings"),
    "transforms": (int, "number of autoregressive or spline transforms"),
    "layers": (int, "number of layers"),
    "blocks": (int, "number of residual blocks"),
    "levels": (int, "number of levels (images)"),
    "steps": (int, "steps of flow in each level"),
    "width": (int, "hidden units or channels of the networks"),
    "depth": (int, "hidden layers or blocks of each network"),
    "hidden_layers": (int, "hidden layers of each network"),
    "kind": (str, "coupling or autoregressive"),
    "bins": (int, "bins of each spline"),
    "bound": (float, "interval [-bound, bound] of the splines"),
    "components": (int, "components of each mixture of logistics"),
    "columns": (int, "columns of each Sylvester layer"),
    "form": (str, "orthogonal, householder or triangular"),
    "activation": (str, "tanh or leaky_relu; elu, lipswish or sine"),
    "coefficient": (float, "bound on the Lipschitz constant of a block, below 1"),
    "log_det": (str, "exact, series or roulette"),
    "dequantization": (str, "variational, or uniform"),
    "partition": (str, "alternating or reverse"),
    "permutation": (str, "alternating or random (vectors)"),
    "order": (str, "reverse or random"),
    "linear": (str, "what mixes the features between transforms"),
    "scale": (str, "scale map: exp, tanh or sigmoid"),
    "max_log_scale": (float, "bound on the log-scale, nats"),
    "conv1x1": (str, "plu or dense"),
    "context_mode": (str, "how labels enter: concat or film"),
    "base": (str, "normal, logistic, diagonal, student_t, mixture or resampled"),
    "alpha": (
        float,
        "model the logit of pixels with this margin; 0 for pixels as such",
    ),
    "conditioner_dtype": (str, "bfloat16 or float16 for networks in half precision"),
    "recompute_gradients": (bool, "rebuild activations: less memory, slower steps"),
}

_EXAMPLES = """\
examples:
  tfp-flows train digits --flow glow
  tfp-flows train moons --flow neural_spline_flow --output runs/moons
  tfp-flows train mnist --flow nice --epochs 1500 --data-dir ~/tensorflow_datasets
  tfp-flows train images.npz --flow glow --conditional --steps 16 --width 128
  tfp-flows train digits --flow glow --resume
  tfp-flows evaluate runs/digits-glow
  tfp-flows sample runs/digits-glow -n 64 --temperature 0.7 --output samples.png
  tfp-flows info runs/digits-glow
"""


class UserError(Exception):
    """A mistake that the user can put right."""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
      argv: arguments; those of the process by default.

    Returns:
      The exit code: 0, 1 if training diverged, 2 for a mistake of the user's, 130 if
      interrupted.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_args(argv)
    arguments.command_line = shlex.join(["tfp-flows", *argv])
    try:
        arguments.run(arguments)
    except UserError as error:
        return _fail(2, f"error: {error}")
    except FloatingPointError as error:
        return _fail(1, f"error: {error}")
    except runs.Interrupted as error:
        return _fail(130, f"{error}: --resume goes on from there")
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
    line = " ".join(part.strip() for part in message.splitlines())
    print(f"tfp-flows: {line}", file=sys.stderr)
    return code


# Commands.


def _train(arguments: argparse.Namespace) -> None:
    directory = Path(
        arguments.output
        or Path("runs") / f"{Path(arguments.data).stem}-{arguments.flow}"
    )
    with _user_errors():
        settings = _settings(arguments, directory)
        training = runs.Training(
            settings,
            directory,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
        )
    source = training.source
    print(
        f"{arguments.flow} with {training.parameters:,} parameters on {source.name}: "
        f"{source.sizes['train']:,} examples of shape {list(source.event_shape)}"
    )
    print(f"settings: {_describe(settings)}")
    with _user_errors(OSError):
        report = training.run(arguments.command_line, verbose=arguments.verbose)
    print(f"{report['training']['epochs']} epochs in {directory}:", end=" ")
    print(", ".join(sorted(p.name for p in directory.iterdir())))
    print(_result_lines(report["results"], source.bounds))
    drawn, finite = report["samples"].values()
    if finite < drawn:
        print(f"  {drawn - finite} of {drawn} samples were not finite and are left out")


def _evaluate(arguments: argparse.Namespace) -> None:
    with _user_errors():
        model = runs.load_model(arguments.model)
        settings = _settings_beside(arguments.model)
        source = _data(arguments, settings)
        results = runs.evaluate(model, source, arguments.split, settings)
    print(_result_lines(results, source.bounds))


def _sample(arguments: argparse.Namespace) -> None:
    with _user_errors():
        model = runs.load_model(arguments.model)
        flow = model.flow
        is_image = len(flow.event_shape) == 3
        output = Path(
            arguments.output or ("samples.png" if is_image else "samples.npy")
        )
        if output.suffix not in (".png", ".npy"):
            raise UserError(f"--output must end in .png or .npy, got {output}")
        if output.suffix == ".png" and not is_image:
            raise UserError(
                f"--output {output}: the model is over vectors; write them to .npy"
            )
        if output.exists() and not arguments.overwrite:
            raise UserError(f"{output} exists: give --overwrite to replace it")
        if not output.parent.is_dir():
            raise UserError(f"there is no directory {output.parent}")
        x = runs.sample(
            model,
            arguments.n,
            temperature=arguments.temperature,
            label=arguments.label,
            seed=arguments.seed,
        )
        finite = np.isfinite(x).reshape(len(x), -1).all(1)
        if not finite.all():
            print(f"{np.sum(~finite)} of {len(x)} samples were not finite: left out")
            x = x[finite]
        if output.suffix == ".png":
            plots.images(x, bounds=(flow.config or {}).get("bounds"), path=output)
        else:
            np.save(output, x)
    print(f"{len(x)} samples of shape {list(x.shape[1:])} in {output}")


def _info(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        for name, version in runs.versions().items():
            print(f"{name:<24}{version}")
        print(f"{'flows':<24}{', '.join(FLOWS)}")
        print(f"{'toys':<24}{', '.join(datasets.TOYS)}")
        print(
            f"{'image sets':<24}digits, mnist, fashion_mnist, cifar10, celeb_a, ... "
            "(TensorFlow Datasets)"
        )
        return
    with _user_errors():
        model = runs.load_model(arguments.model)
    model.summary()
    for name, value in model.get_config()["flow"].items():
        print(f"{name:<24}{value}")


# Pieces.


def _settings(arguments: argparse.Namespace, directory: Path) -> runs.Settings:
    """Settings from what was given, a run to resume, and what suits the data."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(runs.Settings)
        if getattr(arguments, field.name, None) is not None
    }
    options = {
        name: getattr(arguments, name)
        for name in _FLOW_OPTIONS
        if getattr(arguments, name) is not None
    }
    known = _arguments_of(arguments.flow)
    if options.get("alpha") == 0:
        options["alpha"] = None
    for name in options:
        if name not in known:
            has = ", ".join(_flag(o) for o in _FLOW_OPTIONS if o in known)
            raise UserError(
                f"{_flag(name)} is no option of {arguments.flow}, which has {has}"
            )
    if arguments.resume:
        before = dataclasses.asdict(runs.read_settings(directory))
        return runs.Settings(
            **{
                **before,
                **given,
                "flow_options": {**before["flow_options"], **options},
            }
        )
    suited = recipe(arguments.data, arguments.flow)
    fields = {f.name for f in dataclasses.fields(runs.Settings)}
    for name in [n for n in suited if n in fields]:
        given.setdefault(name, suited.pop(name))
    return runs.Settings(**{**given, "flow_options": {**suited, **options}})


def _arguments_of(flow: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(flows, flow)).parameters


def _settings_beside(model: str) -> runs.Settings | None:
    path = Path(model)
    directory = path if path.is_dir() else path.parent
    return (
        runs.read_settings(directory) if (directory / runs.SETTINGS).exists() else None
    )


def _data(
    arguments: argparse.Namespace, settings: runs.Settings | None
) -> datasets.DataSource:
    if settings is None:
        if arguments.data is None:
            raise UserError("the model lies in no run's directory: give --data")
        settings = runs.Settings(data=arguments.data, flow="")
    if arguments.data is not None:
        settings = dataclasses.replace(settings, data=arguments.data)
    if arguments.data_dir is not None:
        settings = dataclasses.replace(settings, data_dir=arguments.data_dir)
    return settings.load_data()


def _result_lines(results: dict[str, Any], bounds: tuple[float, float] | None) -> str:
    lines = [
        f"{results['split']} ({results['examples']:,} examples): log-likelihood "
        f"{results['log_likelihood']:.4f} +/- {results['standard_error']:.4f} nats"
    ]
    if bounds:
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


def _describe(settings: runs.Settings) -> str:
    shown = dataclasses.asdict(settings)
    shown.update(shown.pop("flow_options"))
    return ", ".join(
        f"{k}={v}"
        for k, v in shown.items()
        if k not in ("data", "flow") and v is not None and v is not False
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


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# Arguments.


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tfp-flows",
        description="Trains, evaluates and samples normalizing flows.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tfp-flows {__version__}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_sample(commands)
    info = commands.add_parser("info", help="describe a model, or this installation")
    info.add_argument("model", nargs="?", help="directory of a run, or a model file")
    info.set_defaults(run=_info)
    return parser


def _add_train(commands) -> None:
    train = commands.add_parser(
        "train",
        help="train a flow on a data set",
        description="Trains a flow and writes model, history, pictures and report to "
        "a directory. Ctrl-C saves what was reached; --resume goes on from there.",
    )
    train.add_argument(
        "data",
        metavar="DATA",
        help=f"a toy ({', '.join(datasets.TOYS)}), digits, an image set of TensorFlow "
        "Datasets (mnist, fashion_mnist, cifar10, celeb_a, ...), or a .npy, .npz or "
        ".csv file",
    )
    train.add_argument("--flow", required=True, choices=FLOWS)
    train.add_argument(
        "-o", "--output", help="directory to write (default: runs/DATA-FLOW)"
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in the directory with its settings; --epochs may differ",
    )
    train.add_argument(
        "--overwrite", action="store_true", help="replace the run in the directory"
    )
    train.add_argument(
        "--conditional",
        action="store_true",
        default=None,
        help="make the class label the context of the flow",
    )
    train.add_argument(
        "--epochs", type=_positive(int), help="passes over the training data"
    )
    train.add_argument(
        "--batch-size", type=_positive(int), help="examples in a training step"
    )
    train.add_argument(
        "--learning-rate", type=_positive(float), help="Adam's, at the start"
    )
    train.add_argument(
        "--clip-norm", type=_positive(float), help="bound on the gradient's norm"
    )
    train.add_argument(
        "--validation",
        type=_fraction,
        help="fraction of the training data to choose the best epoch by (default 0.1)",
    )
    train.add_argument(
        "--temperature", type=_positive(float), help="of the samples drawn at the end"
    )
    train.add_argument("--seed", type=_natural, help="of everything random (default 0)")
    train.add_argument(
        "--jit", action="store_true", default=None, help="compile with XLA"
    )
    _add_data_dir(train)
    train.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="0 silent, 1 Keras's progress bar, 2 one line for each epoch",
    )
    group = train.add_argument_group(
        "options of the flow", "the defaults suit the data and two CPU cores"
    )
    for name, (kind, text) in _FLOW_OPTIONS.items():
        takers = [f for f in FLOWS if name in _arguments_of(f)]
        if len(takers) < len(FLOWS):
            text += f" ({', '.join(takers)})"
        if kind is bool:
            group.add_argument(_flag(name), action="store_const", const=True, help=text)
            continue
        convert = kind if kind is str else _positive(kind)
        convert = _fraction if name == "alpha" else convert
        group.add_argument(_flag(name), type=convert, help=text)
    train.set_defaults(run=_train)


def _add_evaluate(commands) -> None:
    evaluate = commands.add_parser("evaluate", help="held-out likelihood of a model")
    _add_model(evaluate)
    evaluate.add_argument("--data", help="other data than the run's")
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), default="test"
    )
    _add_data_dir(evaluate)
    evaluate.set_defaults(run=_evaluate)


def _add_sample(commands) -> None:
    sample = commands.add_parser("sample", help="draw samples of a model")
    _add_model(sample)
    sample.add_argument("-n", type=_positive(int), default=64, help="how many (64)")
    sample.add_argument(
        "-o",
        "--output",
        help="a .png of images or a .npy (default: samples.png, for vectors "
        "samples.npy)",
    )
    sample.add_argument("--overwrite", action="store_true", help="replace the output")
    sample.add_argument("--temperature", type=_positive(float), default=1.0)
    sample.add_argument("--label", type=_natural, help="class, for a conditional model")
    sample.add_argument("--seed", type=_natural, default=0)
    sample.set_defaults(run=_sample)


def _add_model(parser) -> None:
    parser.add_argument("model", help="directory of a run, or a .keras model file")


def _add_data_dir(parser) -> None:
    parser.add_argument(
        "--data-dir", help="where TensorFlow Datasets keeps its data (default: its own)"
    )


def _positive(kind):
    def convert(text):
        value = kind(text)
        # Infinity and NaN are floats too.
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def _natural(text):
    value = int(text)
    if not 0 <= value < 2**31:
        raise ValueError
    return value


_natural.__name__ = "natural number below 2**31"


def _fraction(text):
    value = float(text)
    if not 0 <= value < 1:
        raise ValueError
    return value


_fraction.__name__ = "fraction from 0 to below 1"
