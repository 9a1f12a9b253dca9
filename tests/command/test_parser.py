"""Arguments, and what is answered before TensorFlow is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command.support import call
from tfp_flows import datasets
from tfp_flows._version import __version__
from tfp_flows.command import parser
from tfp_flows.command.flow_options import ready_flows

ROOT = Path(__file__).parents[2]


def test_help_and_mistakes_need_no_tensorflow():
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tfp_flows_command import main
for words, status in [
    (["--help"], 0),
    (["--version"], 0),
    (["train", "--help"], 0),
    (["train", "--flow", "glow", "--help"], 0),
    (["flows"], None),
    (["flows", "glow"], None),
    ([], 2),
    (["trian"], 2),
    (["train", "moons", "--flow", "glw"], 2),
    (["train", "moons", "--flow", "nice", "--stepps", "3"], 2),
    (["train", "moons", "--flow", "nice", "--width", "wide"], 2),
    (["flows", "glw"], 2),
]:
    sys.argv[1:] = words
    try:
        assert main() == 0 and status is None, words
    except SystemExit as stop:
        assert stop.code == status, words
heavy = {{"tensorflow", "keras", "numpy"}} & sys.modules.keys()
assert not heavy, heavy
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert f"tfp-flows {__version__}\n" in run.stdout
    assert "did you mean" not in run.stdout and "Traceback" not in run.stderr


def test_toys_are_those_of_the_data_sets():
    assert tuple(datasets.TOYS) == parser.TOYS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["train"], "required: DATA, --flow"),
        (["train", "moons"], "required: --flow"),
        (["train", "moons", "--flow", "spline"], "invalid choice: 'spline'"),
        (["info", "a", "\x1b[31mb\x07"], "arguments: \\x1b[31mb\\x07"),
        (["evaluate"], "required: model"),
        (["sample"], "required: model"),
        (["info", "a", "b"], "unrecognized arguments: b"),
        (["flows", "spline"], "invalid choice: 'spline'"),
        (["evaluate", "x", "--split", "all"], "--split"),
        (["evaluate", "x", "--widht", "3"], "unrecognized arguments: --widht"),
        (["train", "moons", "--flow", "nice", "--frobnicate"], "--frobnicate"),
        (["train", "moons", "--flow", "nice", "--widht", "3"], "did you mean --width"),
        (["train", "moons", "--flow", "nice", "--wid", "3"], "arguments: --wid"),
        (["train", "moons", "--flow", "nice", "--epochs"], "--epochs"),
        (
            ["train", "moons", "--flow=nice", "--steps", "3"],
            "--steps is no option of nice, which has --",
        ),
        *(
            (["train", "moons", "--flow", "nice", option, value], option)
            for option, values in {
                "--epochs": ("0", "-1", "1.5", "many"),
                "--batch-size": ("0", "x"),
                "--learning-rate": ("0", "-1e-3", "inf", "nan", "high"),
                "--clip-norm": ("0", "nan"),
                "--validation": ("1", "-0.1", "nan", "x"),
                "--temperature": ("0", "x"),
                "--seed": ("-1", "0.5", "99999999999"),
                "--width": ("0", "-3", "wide"),
                "--verbose": ("3", "x"),
            }.items()
            for value in values
        ),
    ],
    ids=" ".join,
)
def test_wrong_arguments(fails, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = fails(*arguments)
    assert message in line and "--help" in line
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_flow():
    words = "train x.npy --flow maf --width 8 --no-residual --seed 3 --batch-norm"
    arguments = parser.parse([*words.split(), "--conditional"])
    assert arguments.flow_options == {
        "width": 8,
        "residual": False,
        "batch_norm": True,
    }
    assert arguments.seed == 3 and arguments.conditional is True
    assert arguments.epochs is None
    words = ["train", "a b", "--flow", "glow", "--levels", "none"]
    arguments = parser.parse(words)
    # That nothing is wanted is something that was given.
    assert arguments.flow_options == {"levels": None}
    assert arguments.command_line == "tfp-flows train 'a b' --flow glow --levels none"


def test_flows(says, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    lines = says("flows").splitlines()
    heads = [line for line in lines if line[0] != " "]
    assert [head.partition(":")[0] for head in heads] == list(ready_flows())
    assert all(len(line) <= 70 for line in lines if line not in heads)
    said = " ".join(" ".join(lines).split())
    for flow in ready_flows().values():
        alone = " ".join(says("flows", flow.name).split())
        for text in (said, alone):
            assert f"{flow.summary} ({flow.paper}) suits: " in text
            for name, fact in flow.facts.items():
                assert f"{name}: {fact}".replace("`", "") in text
        assert all(option.flag in alone for option in flow.options.values())


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ([], ["train", "evaluate", "sample", "info", "flows", "--version", "examples"]),
        (
            ["train"],
            [
                "DATA",
                "--flow",
                "--output",
                "--resume",
                "--resume-best",
                "--overwrite",
                "--conditional",
                "--epochs",
                "--batch-size",
                "--learning-rate",
                "--clip-norm",
                "--validation",
                "--temperature",
                "--seed",
                "--jit",
                "--data-dir",
                "--verbose",
            ],
        ),
        *(
            (["train", "--flow", flow.name], [o.flag for o in flow.options.values()])
            for flow in ready_flows().values()
        ),
        (["evaluate"], ["model", "--data", "--split", "--data-dir"]),
        (
            ["sample"],
            [
                "-n",
                "--output",
                "--overwrite",
                "--temperature",
                "--label",
                "--guidance",
                "--attention-temperature",
            ],
        ),
        (["info"], ["model"]),
        (["flows"], ["FLOW"]),
    ],
)
def test_help(command, expected, capsys):
    assert call(*command, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name in expected:
        assert re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", out), name
