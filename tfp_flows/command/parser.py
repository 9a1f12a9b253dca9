"""What the command line takes. Nothing but the standard library is imported here."""

from __future__ import annotations

import argparse
import difflib
import runpy
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .flow_options import Option, ReadyFlow, ready_flows
from .text import printable

__all__ = ["TOYS", "answer", "parse"]

# The toys of `tfp_flows.datasets`, which takes TensorFlow to import.
TOYS = ("moons", "circles", "pinwheel", "checkerboard", "spirals", "eight_gaussians")

_EXAMPLES = """\
examples:
  tfp-flows train digits --flow glow
  tfp-flows train moons --flow neural_spline_flow --output runs/moons
  tfp-flows train mnist --flow nice --epochs 1500 --data-dir ~/tensorflow_datasets
  tfp-flows train people.csv --flow neural_spline_flow --categorical colour,city
  tfp-flows train images.npz --flow glow --conditional --steps 16 --width 128
  tfp-flows train digits --flow glow --resume
  tfp-flows train moons --flow ffjord --objective flow_matching
  tfp-flows train bsds300 --flow neural_spline_flow --recipe paper --data-dir ~/raw
  tfp-flows evaluate runs/digits-glow
  tfp-flows sample runs/digits-glow -n 64 --temperature 0.7 --output samples.png
  tfp-flows info runs/digits-glow
  tfp-flows flows glow
"""


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, and takes no abbreviations."""

    def __init__(self, **options):
        super().__init__(**options, allow_abbrev=False)

    def error(self, message):
        text = printable(message)
        self.exit(2, f"{self.prog}: error: {text} (see {self.prog} --help)\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parses arguments.

    Args:
      argv: the words after the name of the program.

    Returns:
      Their values, with the `command` that is asked for and the whole `command_line`.
      Options of the flow are a dictionary, `flow_options`, of those that were given.

    Raises:
      SystemExit: after help or a version, or with a message for a mistake.
    """
    flow = _flow_in(argv)
    parser, subparsers = _parsers(flow)
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        subparsers[arguments.command].error(_unknown(unknown[0], flow))
    arguments.command_line = shlex.join(["tfp-flows", *argv])
    names = flow.options if flow else {}
    given = {name: vars(arguments).pop(f"flow_option_{name}", None) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    arguments.flow_options = {n: None if v is _NONE else v for n, v in given.items()}
    return arguments


def answer(arguments: argparse.Namespace) -> bool:
    """Carries out a command that needs no TensorFlow.

    Returns:
      Whether it was one.
    """
    if arguments.command != "flows":
        return False
    width = shutil.get_terminal_size().columns
    if arguments.name is not None:
        print(ready_flows()[arguments.name].describe(width))
        return True
    for flow in ready_flows().values():
        print(flow.introduce(width))
    return True


# `None` as a value that was given.
_NONE = object()


def _flow_in(argv: Sequence[str]) -> ReadyFlow | None:
    """The flow whose options the arguments are."""
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--flow", nargs="?")
    if not argv or argv[0] != "train":
        return None
    return ready_flows().get(finder.parse_known_args(argv)[0].flow)


def _unknown(word: str, flow: ReadyFlow | None) -> str:
    """What to say of an argument that is none."""
    if not word.startswith("-"):
        return f"unrecognized arguments: {word}"
    flag = word.partition("=")[0]
    if flow is None:
        return f"unrecognized arguments: {flag}"
    known = [option.flag for option in flow.options.values()]
    elsewhere = {o.flag for f in ready_flows().values() for o in f.options.values()}
    close = difflib.get_close_matches(flag, known, n=1)
    hint = f"; did you mean {close[0]}?" if close and flag not in elsewhere else ""
    return (
        f"{flag} is no option of {flow.name}{hint}, which has {', '.join(known)}"
        if flag in elsewhere
        else f"unrecognized arguments: {flag}{hint}"
    )


def _parsers(
    flow: ReadyFlow | None,
) -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """The parser of all commands, and that of each."""
    parser = _Parser(
        prog="tfp-flows",
        description="Trains, evaluates and samples normalizing flows.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"tfp-flows {_version()}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    return parser, {
        "train": _add_train(commands, flow),
        "evaluate": _add_evaluate(commands),
        "sample": _add_sample(commands),
        "info": _add_info(commands),
        "flows": _add_flows(commands),
    }


def _version() -> str:
    """The version of the package, which is not imported."""
    path = Path(__file__).resolve().parent.parent / "_version.py"
    return runpy.run_path(str(path))["__version__"]


def _add_train(commands: Any, flow: ReadyFlow | None) -> argparse.ArgumentParser:
    train = commands.add_parser(
        "train",
        help="train a flow on a data set",
        description="Trains a flow and writes model, history, pictures and report to "
        "a directory. Ctrl-C saves what was reached; --resume goes on from there.",
        epilog=None
        if flow
        else "Each flow has options of its own: `tfp-flows flows FLOW` shows them.",
    )
    train.add_argument(
        "data",
        metavar="DATA",
        help=f"a toy ({', '.join(TOYS)}), a table of papers (power, gas, hepmass, "
        "miniboone, bsds300), digits, an image set of TensorFlow Datasets (mnist, "
        "fashion_mnist, cifar10, celeb_a, ...), or a file: .npy, .npz, or a table as "
        "text: .csv, .tsv, .txt, .data, .dat, also .csv.gz and so on",
    )
    train.add_argument("--flow", required=True, choices=tuple(ready_flows()))
    train.add_argument(
        "-o", "--output", help="directory to write (default: runs/DATA-FLOW)"
    )
    train.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in the directory with its settings; --epochs may differ",
    )
    train.add_argument(
        "--resume-best",
        action="store_true",
        help="continue it from its best epoch, model.keras, not from last.keras",
    )
    train.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the run in the directory, once an epoch is done",
    )
    train.add_argument(
        "--recipe",
        help="follow a published configuration, such as `paper`; what is given beside "
        "it goes before",
    )
    train.add_argument(
        "--ensemble",
        type=_positive(int),
        metavar="K",
        help="train K flows that differ in their seed, and mix them as one density",
    )
    train.add_argument(
        "--conditional",
        action="store_true",
        default=None,
        help="make the class label the context of the flow",
    )
    train.add_argument(
        "--objective",
        choices=("likelihood", "flow_matching"),
        help="what is trained: the likelihood (the default), or the velocity of "
        "ffjord, without solving its equation",
    )
    train.add_argument(
        "--pairing",
        choices=("independent", "optimal_transport"),
        help="how flow_matching pairs noise and data (default independent)",
    )
    train.add_argument(
        "--epochs", type=_positive(int), help="passes over the training data"
    )
    train.add_argument(
        "--epoch-steps",
        type=_positive(int),
        help="training steps that count as an epoch (default: all training data once)",
    )
    train.add_argument(
        "--batch-size", type=_positive(int), help="examples in a training step"
    )
    train.add_argument(
        "--learning-rate", type=_positive(float), help="Adam's, at its highest"
    )
    train.add_argument(
        "--warmup",
        type=_not_negative,
        metavar="EPOCHS",
        help="epochs, or a fraction of one, in which the learning rate rises from 0",
    )
    train.add_argument(
        "--decay",
        choices=("epoch", "step", "none"),
        help="how the learning rate falls to 0 along a cosine: epoch by epoch (the "
        "default), step by step (the default after a warm-up), or not at all",
    )
    train.add_argument(
        "--clip-norm", type=_positive(float), help="bound on the gradient's norm"
    )
    train.add_argument(
        "--weight-decay", type=_positive(float), help="Keras's, of all weights"
    )
    train.add_argument(
        "--average",
        type=_fraction,
        metavar="MOMENTUM",
        help="evaluate and keep the moving average of the weights, such as 0.999",
    )
    train.add_argument(
        "--patience",
        type=_positive(int),
        metavar="EPOCHS",
        help="end after so many epochs that are no better on the validation data",
    )
    train.add_argument(
        "--validation",
        type=_fraction,
        help="fraction of the training data to choose the best epoch by (default 0.1)",
    )
    train.add_argument(
        "--tidy",
        action="store_true",
        default=None,
        help="leave out constant columns of a table, and add noise to whole numbers",
    )
    train.add_argument(
        "--categorical",
        nargs="?",
        const=True,
        type=_names,
        metavar="COLUMNS",
        help="columns of a table that hold categories, such as colour,city (without "
        "names: those that hold no numbers); likelihoods are then lower bounds",
    )
    train.add_argument(
        "--integer",
        nargs="?",
        const=True,
        type=_names,
        metavar="COLUMNS",
        help="columns of a table that hold integers (without names: those of whole "
        "numbers); likewise",
    )
    train.add_argument(
        "--temperature", type=_positive(float), help="of the samples drawn at the end"
    )
    train.add_argument("--seed", type=_natural, help="of everything random (default 0)")
    train.add_argument(
        "--jit",
        action=argparse.BooleanOptionalAction,
        help="compile with XLA (default: after some time, if that is faster)",
    )
    _add_data_dir(train)
    train.add_argument(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="0 silent, 1 Keras's progress bar, 2 one line for each epoch",
    )
    if flow:
        group = train.add_argument_group(
            f"options of {flow.name}", "the defaults suit the data and two CPU cores"
        )
        for option in flow.options.values():
            _add_option(group, option)
    return train


def _add_option(group: Any, option: Option) -> None:
    # argparse takes a percent sign for the beginning of a format.
    text = option.help.replace("%", "%%").replace("\n", " ")
    keywords = {"dest": f"flow_option_{option.name}", "default": None, "help": text}
    if option.is_switch:
        group.add_argument(
            option.flag, action=argparse.BooleanOptionalAction, **keywords
        )
        return
    convert = option.converter

    def given(word):
        value = convert(word)
        return _NONE if value is None else value

    given.__name__ = convert.__name__
    metavar = "WORD" if "str" in option.kinds else "NUMBER"
    group.add_argument(option.flag, type=given, metavar=metavar, **keywords)


def _add_evaluate(commands):
    evaluate = commands.add_parser("evaluate", help="held-out likelihood of a model")
    _add_model(evaluate)
    evaluate.add_argument("--data", help="other data than the run's")
    evaluate.add_argument(
        "--split", choices=("train", "validation", "test"), default="test"
    )
    _add_data_dir(evaluate)
    return evaluate


def _add_sample(commands):
    sample = commands.add_parser("sample", help="draw samples of a model")
    _add_model(sample)
    sample.add_argument("-n", type=_positive(int), default=64, help="how many (64)")
    sample.add_argument(
        "-o",
        "--output",
        help="a .png of images, a .npy, or a .csv of vectors (default: samples.png, "
        "for vectors samples.npy, for tables with categories samples.csv)",
    )
    sample.add_argument("--overwrite", action="store_true", help="replace the output")
    sample.add_argument("--temperature", type=_positive(float), default=1.0)
    sample.add_argument("--label", type=_natural, help="class, for a conditional model")
    sample.add_argument(
        "--guidance",
        type=_not_negative,
        metavar="WEIGHT",
        help="draw more typical members of classes, from a model such as tarflow that "
        "was trained with --conditional --class-drop 0.1; or, with "
        "--attention-temperature, from any tarflow",
    )
    sample.add_argument(
        "--attention-temperature",
        type=_positive(float),
        default=1.0,
        metavar="TEMPERATURE",
        help="with --guidance: push off what more even attention makes (above 1)",
    )
    sample.add_argument("--seed", type=_natural, default=0)
    return sample


def _add_info(commands):
    info = commands.add_parser("info", help="describe a model, or this installation")
    info.add_argument("model", nargs="?", help="directory of a run, or a model file")
    return info


def _add_flows(commands):
    flows = commands.add_parser(
        "flows",
        help="say what each flow suits and costs, or also the options of one",
    )
    flows.add_argument(
        "name", nargs="?", metavar="FLOW", choices=tuple(ready_flows()), help="a flow"
    )
    return flows


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="directory of a run, or a .keras model file")


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir",
        help="where TensorFlow Datasets keeps its data (default: its own), or the raw "
        "files of a table of papers are (default: that of TFP_FLOWS_DATA_DIR)",
    )


def _names(text):
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError
    return names


_names.__name__ = "list of columns"


def _positive(kind):
    def convert(text):
        value = kind(text)
        # Infinity and NaN are floats too.
        if not 0 < value < float("inf"):
            raise ValueError
        return value

    convert.__name__ = f"positive {kind.__name__}"
    return convert


def _not_negative(text):
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


_not_negative.__name__ = "number from 0"


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
