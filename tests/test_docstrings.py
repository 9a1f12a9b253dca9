"""Docstrings of all that is public name every argument, and what is returned."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import tfp_flows

MODULES = [n for n in tfp_flows.__all__ if inspect.ismodule(getattr(tfp_flows, n))]
MODULES += ["inference.simulators", "ready"]


def is_ours(value):
    module = getattr(value, "__module__", None) or ""
    return module.partition(".")[0] == "tfp_flows"


def public():
    """Public functions and classes, and the methods of the latter that are ours."""
    modules = [importlib.import_module(f"tfp_flows.{name}") for name in MODULES]
    for module in (tfp_flows, *modules):
        for name in module.__all__:
            value = getattr(module, name)
            if not (callable(value) and is_ours(value)):
                continue
            yield f"{value.__module__}.{name}", value
            for key in vars(value) if inspect.isclass(value) else ():
                method = getattr(value, key)
                # Others are documented by Keras and TensorFlow Probability.
                known = any(hasattr(b, key) for b in value.__mro__ if not is_ours(b))
                if inspect.isroutine(method) and not key.startswith("_") and not known:
                    yield f"{value.__module__}.{name}.{key}", method


PUBLIC = dict(public())
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}


def signature(value):
    """The signature of what takes arguments of its own."""
    if not inspect.isclass(value) or hasattr(value, "_fields"):
        return inspect.signature(value)
    # Not of the class: early releases of Python 3.11 then show Keras's `__new__`.
    method = value.__init__
    return inspect.signature(method) if is_ours(method) else inspect.Signature()


def sections(value):
    parts = re.split(r"^(\w+):\n", inspect.getdoc(value) or "", flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_named(name):
    found = sections(PUBLIC[name])
    text = found.get("Args", "") + found.get("Attributes", "")
    entries = " ".join(re.findall(r"^  (\S[^:]*):", text, flags=re.M))
    named = set(re.findall(r"\w+", entries))
    taken = {key for key in signature(PUBLIC[name]).parameters if key[0] != "_"}
    assert taken - {"self"} <= named


@pytest.mark.parametrize("name", [name for name in PUBLIC if name not in CLASSES])
def test_what_is_returned_is_said(name):
    returned = inspect.signature(PUBLIC[name]).return_annotation
    assert returned is not inspect.Signature.empty
    if returned not in (None, "None"):
        found = sections(PUBLIC[name])
        assert "Returns" in found or found[""].startswith("Returns ")


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_has_an_example(name):
    # Errors and warnings are seen where they are raised.
    if not issubclass(CLASSES[name], BaseException):
        assert ">>> " in sections(CLASSES[name]).get("Example", "")
