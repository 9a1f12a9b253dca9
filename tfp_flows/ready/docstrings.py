"""The docstring of a ready flow, with the options that all flows share in it."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Sequence

__all__ = ["describe_shapes", "document"]

_RETURNS = """\
A `Flow` over `event_shape`, with `dequantize` a
`VariationalDequantization` or `MixedDequantization` of one; densities are
those of the data as given, in nats."""
_RAISES = """\
TypeError: on an option that is not known, or of a wrong type.
ValueError: on a value out of range, or an option that has no
  meaning beside the others."""


def document(
    own_doc: str | None, shared_doc: str | None, names: Iterable[str], shapes: str
) -> str:
    """A flow's docstring with the shared options in it.

    Args:
      own_doc: docstring of the generator.
      shared_doc: docstring of `Plan`.
      names: those of its options that the flow takes.
      shapes: what `event_shape` may be.
    """
    own, shared = _sections(own_doc), _sections(shared_doc)
    texts = _entries(shared["Args"])
    lines = ["event_shape: " + shapes, own.get("Args", "")]
    lines += [texts[name] for name in names]
    sections = {"": own[""]}
    if "Facts" in own:
        sections["Facts"] = own["Facts"]
    sections["Args"] = "\n".join(filter(None, lines))
    sections["Returns"] = own.get("Returns") or _RETURNS
    sections["Raises"] = "\n".join(filter(None, [_RAISES, own.get("Raises")]))
    if "Example" in own:
        sections["Example"] = own["Example"]
    return "\n\n".join(
        f"{title}:\n{textwrap.indent(text, '  ')}" if title else text
        for title, text in sections.items()
    )


def describe_shapes(shapes: Sequence[int], flatten: bool) -> str:
    """Describes what `event_shape` may be, by its ranks."""
    if tuple(shapes) == (3,):
        return "sequence of ints, `(H, W, C)`."
    if tuple(shapes) == (1,):
        return "sequence of ints, `(D,)`."
    flat = "; images are flattened" if flatten else ""
    return f"sequence of ints, `(D,)` or `(H, W, C)`{flat}."


def _sections(doc: str | None) -> dict[str, str]:
    """A docstring's text by the titles of its sections; what is before them by ""."""
    parts = re.split(r"^(\w+):\n", inspect.cleandoc(doc or ""), flags=re.MULTILINE)
    sections = zip(parts[1::2], parts[2::2], strict=True)
    texts = {title: textwrap.dedent(text).strip() for title, text in sections}
    return {"": parts[0].strip(), **texts}


def _entries(text: str) -> dict[str, str]:
    """The entries of an `Args:` section by name."""
    found = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return {entry.partition(":")[0]: entry.rstrip() for entry in found if entry}
