"""Options of flows as they are read from source, beside those of the functions."""

from __future__ import annotations

import inspect

import pytest

from tfp_flows import flows
from tfp_flows.command.flow_options import Option, ready_flows

# Those of users have the name of a module in front.
OURS = [name for name in flows.READY if ":" not in name]


@pytest.mark.parametrize("flow", OURS)
def test_options_are_the_keyword_arguments_of_the_function(flow):
    function = flows.READY[flow]
    parameters = inspect.signature(function).parameters
    options = ready_flows()[flow].options
    # What the data or the run decide, or no word can say.
    others = {
        "bounds",
        "context_encoder",
        "context_shape",
        "dtype",
        "event_shape",
        "name",
        "normalize_context",
        "num_classes",
        "seed",
    }
    assert options.keys() == parameters.keys() - others
    doc = " ".join(function.__doc__.replace("`", "").split())
    for name, option in options.items():
        assert option.default == parameters[name].default
        assert option.text and " ".join(option.text.split()) in doc
    assert function.__doc__.startswith(ready_flows()[flow].summary)


def test_all_ready_flows_are_there():
    assert set(ready_flows()) == set(OURS)


@pytest.mark.parametrize(
    ("kinds", "word", "value"),
    [
        (("int",), "3", 3),
        (("int", "None"), "none", None),
        (("float",), "0.5", 0.5),
        (("float", "None"), "2", 2.0),
        (("str",), "none", "none"),
        (("str", "None"), "none", None),
        (("str", "Mapping[str, Any]"), "mixture", "mixture"),
        (("str", "Mapping[str, Any]"), '{"name": "a", "n": 4}', {"name": "a", "n": 4}),
        (("bool", "str", "None"), "true", True),
        (("bool", "str", "None"), "robust", "robust"),
        (("int", "Sequence[int]", "None"), "4,2,3", [4, 2, 3]),
        (("int", "Sequence[int]", "None"), "4", 4),
    ],
)
def test_words(kinds, word, value):
    found = Option("x", kinds, None, "").converter(word)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kinds", "word", "at_least"),
    [
        (("int",), "0", 1),
        (("int",), "-1", 0),
        (("int",), "2.5", 1),
        (("int",), "none", 1),
        (("float",), "inf", 1),
        (("float",), "nan", 1),
        (("float", "None"), "wide", 1),
        (("bool", "None"), "maybe", 1),
        (("int", "Sequence[int]"), "4,0,3", 1),
        (("int", "Sequence[int]"), "4,,3", 1),
    ],
)
def test_wrong_words(kinds, word, at_least):
    with pytest.raises(ValueError):
        Option("x", kinds, None, "", at_least).converter(word)
