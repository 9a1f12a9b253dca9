"""What the ready flows are and which options they take, read from their source.

Importing `tfp_flows.flows` imports TensorFlow, for seconds. A command line that only
answers a question or finds a mistake need not wait for that, so this module reads the
files of `tfp_flows/flows` as text: functions decorated by `ready`, their keyword-only
arguments with annotations and defaults, and what their docstrings say about them and
about the flow. Options that all flows share are those of `Plan`, in `ready/plan.py`.
The module imports nothing but the standard library.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import math
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["Option", "ReadyFlow", "ready_flows"]

_PACKAGE = Path(__file__).resolve().parent.parent

# What the data or the run decide, and what cannot be written on a command line.
_DECIDED = {
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


@dataclasses.dataclass(frozen=True)
class Option:
    """An argument of a ready flow.

    Attributes:
      name: of the argument.
      kinds: what values may be: names of types, such as `("int", "None")`.
      default: its default, `None` if it is no literal.
      text: what the docstring says, without marks of code.
      at_least: the lowest whole number that is allowed.
    """

    name: str
    kinds: tuple[str, ...]
    default: Any
    text: str
    at_least: int = 1

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def help(self) -> str:
        """The text of the docstring, and the default."""
        if self.default in (None, False) or "default" in self.text:
            return self.text
        return f"{self.text.rstrip('.')} (default {self.default})."

    @property
    def is_switch(self) -> bool:
        """Whether it is either on or off."""
        return self.kinds == ("bool",)

    @property
    def converter(self) -> Callable[[str], Any]:
        """Makes a value of a word; raises a ValueError on one that is none."""

        def convert(word: str) -> Any:
            return self._convert(word)

        # argparse names it in its messages.
        convert.__name__ = self.described
        return convert

    @property
    def described(self) -> str:
        """The values that may be given, in words."""
        words = {
            "int": f"whole number from {self.at_least}",
            "float": "number",
            "str": "word",
            "bool": "true or false",
            "Sequence[int]": "list of whole numbers",
            "Mapping[str, Any]": "JSON object",
            "None": "none",
        }
        return " or ".join(words[kind] for kind in self.kinds if kind in words)

    def _convert(self, word: str) -> Any:
        for kind in _KINDS:
            if kind in self.kinds:
                try:
                    return self._checked(_KINDS[kind](word))
                except (KeyError, ValueError):
                    pass
        raise ValueError(word)

    def _checked(self, value: Any) -> Any:
        numbers = value if isinstance(value, list) else [value]
        for number in numbers:
            if type(number) is int and number < self.at_least:
                raise ValueError(value)
            if type(number) is float and not math.isfinite(number):
                raise ValueError(value)
        return value


def _json_object(word: str) -> dict[str, Any]:
    value = json.loads(word)
    if not isinstance(value, dict):
        raise ValueError(word)
    return value


def _word(word: str) -> str:
    if word.lstrip().startswith("{"):
        # A JSON object with a mistake.
        raise ValueError(word)
    return word


# What a word may mean, in the order in which it is tried.
_KINDS: dict[str, Callable[[str], Any]] = {
    "None": {"none": None}.__getitem__,
    "bool": {"true": True, "false": False}.__getitem__,
    "int": int,
    "float": float,
    "Sequence[int]": lambda word: [int(part) for part in word.split(",")],
    "Mapping[str, Any]": _json_object,
    "str": _word,
}


@dataclasses.dataclass(frozen=True)
class ReadyFlow:
    """A ready flow, as its source describes it.

    Attributes:
      name: of the function.
      paper: authors and year, from the first line of its file.
      summary: the first line of its docstring.
      facts: what it suits and costs, the section `Facts:` of its docstring.
      options: its arguments that a word can stand for.
    """

    name: str
    paper: str
    summary: str
    facts: dict[str, str]
    options: dict[str, Option]

    def introduce(self, width: int) -> str:
        """What it is, and each of its facts, in lines of some width."""
        paragraphs = [f"{self.name}: {self.summary} ({self.paper})"]
        for name, text in self.facts.items():
            line = f"    {name + ':':<9}{_plain(text)}"
            paragraphs += textwrap.wrap(line, width, subsequent_indent=" " * 13)
        return "\n".join(paragraphs)

    def describe(self, width: int) -> str:
        """The same, and its options, one to a paragraph."""
        paragraphs = [self.introduce(width)]
        for option in self.options.values():
            given = "" if option.is_switch else f" ({option.described})"
            text = re.sub(r"^", "    ", option.help, flags=re.MULTILINE)
            paragraphs.append(f"{option.flag}{given}\n{text}")
        return "\n".join(paragraphs)


@functools.cache
def ready_flows() -> dict[str, ReadyFlow]:
    """All ready flows of the package by name."""
    shared = _shared_options()
    found = [
        (file, function, decorator)
        for path in sorted((_PACKAGE / "flows").glob("*.py"))
        for file in [ast.parse(path.read_text(encoding="utf-8"))]
        for function in file.body
        if isinstance(function, ast.FunctionDef)
        for decorator in function.decorator_list
        if _name_of(decorator) == "ready"
    ]
    keywords = {f.name: _literal_keywords(d) for _, f, d in found}
    # Shared options that only some flows take are those that any of them asks for.
    optional = {name for k in keywords.values() for name in k.get("takes", ())}
    flows = {}
    for file, function, _ in found:
        given = keywords[function.name]
        takes, at_least = given.get("takes", ()), given.get("at_least", {})
        without = given.get("without", ())
        doc = ast.get_docstring(function) or ""
        options = {o.name: o for o in _options(function.args, doc, at_least)}
        for name, option in shared.items():
            if (name not in optional or name in takes) and name not in without:
                # A flow may have another default.
                default = given.get(name, option.default)
                options[name] = dataclasses.replace(option, default=default)
        flows[function.name] = ReadyFlow(
            function.name,
            "".join(re.findall(r"\((.* \d{4})\)", ast.get_docstring(file) or "")),
            doc.partition("\n")[0],
            {k: " ".join(v.split()) for k, v in _entries(doc, "Facts").items()},
            options,
        )
    return dict(sorted(flows.items()))


def _shared_options() -> dict[str, Option]:
    """The options of `Plan`, if there is one."""
    tree = ast.parse((_PACKAGE / "ready" / "plan.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Plan":
            doc = ast.get_docstring(node) or ""
            (init,) = (
                part
                for part in node.body
                if isinstance(part, ast.FunctionDef) and part.name == "__init__"
            )
            return {o.name: o for o in _options(init.args, doc, {})}
    return {}


def _options(
    arguments: ast.arguments, doc: str, at_least: dict[str, int]
) -> Iterator[Option]:
    """The keyword-only arguments that a word can stand for."""
    texts = _entries(doc, "Args")
    for argument, default in zip(
        arguments.kwonlyargs, arguments.kw_defaults, strict=True
    ):
        name = argument.arg
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        kinds = tuple(part.strip() for part in annotation.split(" | "))
        if name in _DECIDED or not set(kinds) & (_KINDS.keys() - {"None"}):
            continue
        try:
            value = ast.literal_eval(default) if default is not None else None
        except ValueError:
            value = None
        text = _plain(texts.get(name, ""))
        yield Option(name, kinds, value, text, at_least.get(name, 1))


def _plain(text: str) -> str:
    """A text of a docstring without marks of code."""
    return text.replace("`", "")


def _entries(doc: str, title: str) -> dict[str, str]:
    """The entries of a section of a docstring by name."""
    _, _, rest = inspect.cleandoc(doc).partition(f"\n{title}:\n")
    section = re.split(r"^\S", rest, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", section, flags=re.MULTILINE)
    return {
        # A docstring may name the type first; the annotation says it already.
        name: re.sub(
            r"^(int|float|bool|string)( or \w+)?, ", "", inspect.cleandoc(text)
        )
        for name, text in found
    }


def _name_of(decorator: ast.expr) -> str | None:
    if isinstance(decorator, ast.Call):
        decorator = decorator.func
    return decorator.id if isinstance(decorator, ast.Name) else None


def _literal_keywords(decorator: ast.expr) -> dict[str, Any]:
    """The keyword arguments of a decorator that are literals."""
    found = {}
    for keyword in getattr(decorator, "keywords", ()):
        try:
            found[keyword.arg] = ast.literal_eval(keyword.value)
        except ValueError:
            continue
    return found
