"""The papers that a flow uses, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import keras
import tensorflow as tf

__all__ = ["bibliography", "citation"]

# Parts of TFP's, which cannot say it themselves.
_OF_TFP = {
    "AutoregressiveNetwork": ("germain2015made",),
    "BatchNormalization": ("dinh2017real_nvp",),
    "Glow": ("kingma2018glow",),
    "MaskedAutoregressiveFlow": ("papamakarios2017maf",),
    "RationalQuadraticSpline": ("durkan2019spline",),
    "RealNVP": ("dinh2017real_nvp",),
}


def bibliography() -> dict[str, str]:
    """All entries of the package's `references.bib`, by their keys."""
    text = resources.files("tfp_flows").joinpath("references.bib").read_text("utf-8")
    entries = re.split(r"\n+(?=@)", text.strip())
    return {re.match(r"@\w+{([^,]+),", entry)[1]: entry for entry in entries}  # type: ignore[index]


def citation(flow: Any) -> str:
    r"""BibTeX of the papers that a flow uses, and of no others.

    Bijectors, transformers, networks, base distributions and models name their papers
    in an attribute, `papers`; all parts of the flow are asked. A class of your own has
    one, too, if it wants: a tuple of keys of the package's `references.bib`, or of
    whole BibTeX entries. Of TFP's own bijectors, those that implement a paper on flows
    are known.

    Example:
      >>> import tfp_flows
      >>> flow = tfp_flows.flows.maf((3,), layers=2, width=8, seed=0)
      >>> print("\n".join(
      ...     line for line in tfp_flows.citation(flow).splitlines() if "@" in line))
      @inproceedings{germain2015made,
      @inproceedings{papamakarios2017maf,

    Args:
      flow: a flow or any other distribution, a bijector, a network or a Keras model.

    Returns:
      The entries in the order of their keys, with an empty line between them; nothing
      for parts that have no paper.

    Raises:
      TypeError: if `flow` is none of these.
      ValueError: if a class names a paper that is not known.
    """
    if not isinstance(flow, (tf.Module, keras.layers.Layer)):
        raise TypeError(
            "flow must be a flow, distribution, bijector or Keras model, got "
            f"{type(flow).__name__}."
        )
    known, found = bibliography(), set()
    for part in _parts(flow, {}):
        for paper in _papers(part):
            if paper not in known and not paper.startswith("@"):
                raise ValueError(
                    f"{type(part).__name__}.papers names {paper!r}, which is neither a "
                    f"BibTeX entry nor a key; keys: {', '.join(known)}."
                )
            found.add(known.get(paper, paper))
    return "\n\n".join(sorted(found, key=lambda entry: entry.partition("{")[2]))


def _papers(part):
    if type(part).__module__.startswith("tensorflow_probability"):
        return getattr(part, "papers", _OF_TFP.get(type(part).__name__, ()))
    return getattr(part, "papers", ())


def _parts(thing: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """An object and all that is in it, each once."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    inner: Any = ()
    if isinstance(thing, Mapping):
        inner = list(thing.values())
    elif isinstance(thing, (list, tuple, set, frozenset)):
        inner = list(thing)
    elif (
        isinstance(thing, (tf.Module, keras.layers.Layer))
        # Transformers, and what holds a network without showing it to TensorFlow.
        or type(thing).__module__.partition(".")[0] == "tfp_flows"
        or hasattr(thing, "num_parameters")
        or hasattr(thing, "papers")
    ):
        yield thing
        inner = [v for k, v in vars(thing).items() if k != "_parameters"]
    for value in inner:
        yield from _parts(value, seen)
