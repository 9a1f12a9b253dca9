"""Builds the site: `sphinx-build -W -n -b html docs docs/_build/html`.

Pages are Markdown, the reference is made from the docstrings of all public names, and
notebooks are shown as they are stored. Nothing here is loaded from elsewhere, so that
the site can be read without a network: formulas are MathML.

With the environment variable `TFP_FLOWS_REPOSITORY`, the `owner/name` of a public copy
of this repository on GitHub, each notebook links to where it can be run: Colab, Binder.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import unicodedata
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import keras  # noqa: E402
from docutils import nodes  # noqa: E402
from docutils.utils.math import latex2mathml  # noqa: E402
from sphinx.util import logging  # noqa: E402

from tfp_flows import __version__  # noqa: E402
from tfp_flows.citing import bibliography  # noqa: E402
from tfp_flows.command.flow_options import ready_flows  # noqa: E402

project, author, release = "tfp_flows", "The tfp_flows authors", __version__
project_copyright = "the tfp_flows authors, Apache 2.0"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "_templates"]
templates_path = ["_templates"]
suppress_warnings = ["mystnb.unknown_mime_type"]

# Pages. Notebooks and what is beside them are copied to where Sphinx finds them.
myst_enable_extensions = ["colon_fence", "dollarmath", "html_image"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# Reference.
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
autosummary_ignore_module_all = False
autosummary_imported_members = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Facts", "params_style")]
napoleon_use_ivar = True

# Looks.
html_theme = "furo"
html_title = "tfp_flows"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


REPOSITORY = os.environ.get("TFP_FLOWS_REPOSITORY")
if REPOSITORY and not re.fullmatch(r"[\w.-]+/[\w.-]+", REPOSITORY):
    raise ValueError(f"TFP_FLOWS_REPOSITORY must be owner/name, got {REPOSITORY!r}.")

PACKAGES = ("tfp_flows", *(f"tfp_flows.{m}" for m in (
    "flows", "bijectors", "transformers", "networks", "distributions", "training",
    "inference", "diagnostics", "detection", "models", "latent", "masks", "datasets",
    "plots",
)))  # fmt: skip


def public_names():
    """The full name of each public object, which is that of its page, and its names."""
    pages, names = {}, {}
    for package in reversed(PACKAGES):
        module = importlib.import_module(package)
        for name in module.__all__:
            value, full = getattr(module, name), f"{package}.{name}"
            if inspect.isclass(value) and issubclass(value, keras.Layer):
                # Keras hides it behind a `__new__`.
                signature = inspect.signature(value.__init__, eval_str=True)
                _, *arguments = signature.parameters.values()
                value.__signature__ = signature.replace(parameters=arguments)
            if inspect.ismodule(value):
                continue
            page = pages.setdefault(id(value), full)
            parts = full.split(".")
            for start in range(len(parts) - (not name[0].isupper())):
                names.setdefault(".".join(parts[start:]), page)
    return pages, names


PAGES, NAMES = public_names()


def as_rst(app, what, name, obj, options, lines):
    """A docstring's code and formulas, which are written as in Markdown."""
    spans = re.compile(
        r"^(?P<indent> *)\$\$(?P<block>.*?)\$\$(?P<end>[.,:;]?)"
        r"|(?<![\w$])\$(?P<math>[^$\n](?:[^$]*[^$\s])?)\$(?![\w$])|``[^`]+``"
        r"|(?<!:)`(?P<code>[^`]+)`(?P<tail>\w?)",
        re.M | re.S,
    )

    def rst(found):
        if found["block"]:
            formula = " ".join(found["block"].split()) + found["end"].rstrip(":")
            return f"\n{found['indent']}.. math:: {formula}\n\n{found['indent']}"
        if found["math"]:
            return ":math:`" + " ".join(found["math"].split()) + "`"
        if found["code"]:
            code = " ".join(found["code"].split())
            tail = "\\ " + found["tail"] if found["tail"] else ""
            if code in NAMES and NAMES[code] != name:
                return f":py:obj:`{code} <{NAMES[code]}>`{tail}"
            return f"``{code}``{tail}"
        return found[0]

    text = spans.sub(rst, "\n".join(lines))
    # What is returned has no type in front, nor has a property: both are annotated.
    text = re.sub(r"(?m)^( *)Returns:\n( +)", r"\1Returns:\n\2: ", text)
    if what in ("attribute", "property") and text:
        text = ": " + text
    lines[:] = text.split("\n")


def list_names(app, docname, source):
    """Puts a table of a package's public names in place of {{names package}}."""

    def table(found):
        module = importlib.import_module(found[1])
        names = [n for n in module.__all__ if callable(getattr(module, n))]
        rows = "\n".join(f"   ~{PAGES[id(getattr(module, n))]}" for n in names)
        return f"```{{eval-rst}}\n.. autosummary::\n   :nosignatures:\n\n{rows}\n```"

    source[0] = re.sub(r"{{names ([\w.]+)}}", table, source[0])


def list_facts(app, docname, source):
    """Puts a table of facts about the ready flows in place of {{flows fact, fact}}."""

    def table(found):
        facts = found[1].split(", ")
        rows = [["Flow", *(fact.capitalize() for fact in facts)], ["---"] * len(facts)]
        rows[1].append("---")
        for name, flow in ready_flows().items():
            known = {**flow.facts, "paper": flow.paper}
            rows.append([f"`{name}`", *(known[fact].rstrip(".") for fact in facts)])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)

    source[0] = re.sub(r"{{flows ([\w, ]+)}}", table, source[0])


def list_papers(app, docname, source):
    """Puts the bibliography in place of {{papers}}."""
    if "{{papers}}" in source[0]:
        papers = [paper(key, entry) for key, entry in bibliography().items()]
        source[0] = source[0].replace("{{papers}}", "\n".join(papers))


def paper(key, entry):
    """A paper as a line of Markdown: authors, year, title, where it appeared."""
    of = dict(re.findall(r"^  (\w+) = {(.*)},$", entry, re.M))
    accents = {"`": "\u0300", "'": "\u0301", '"': "\u0308"}
    for field, text in of.items():
        text = re.sub(r"{\\(.)(\w)}", lambda m: m[2] + accents[m[1]], text)
        of[field] = unicodedata.normalize("NFC", re.sub("[{}]", "", text))
    names = [" ".join(reversed(a.split(", "))) for a in of["author"].split(" and ")]
    who = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    where = of.get("booktitle") or of["journal"]
    return (
        f"- {who} ({of['year']}). *{of['title']}.* {where}. "
        f"[arXiv:{of['eprint']}](https://arxiv.org/abs/{of['eprint']}), `{key}`"
    )


def skip_inherited(app, what, name, obj, skip, options):
    """Leaves out what other packages wrote and copied into our classes."""
    function = getattr(obj, "fget", obj)
    module = getattr(inspect.unwrap(function), "__module__", None) or "tfp_flows"
    return None if module.startswith("tfp_flows") or what == "module" else True


def public_bases(app, name, obj, options, bases):
    """In place of private bases, what these derive from."""
    private = [b for b in bases if id(b) not in PAGES and "tfp_flows" in b.__module__]
    for base in private:
        bases.remove(base)
        found = next(
            b
            for b in base.__mro__
            if id(b) in PAGES or not b.__module__.startswith("tfp_flows")
        )
        if found not in bases and (found is not object or not bases):
            bases.append(found)


def resolve(app, env, node, content):
    """Links to names of ours that have their page under another; none to private ones.

    A name of another package stays what it is, too: nothing here knows their pages.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    if target in NAMES and NAMES[target] != target:
        return env.domains["py"].resolve_xref(
            env, node["refdoc"], app.builder, "obj", NAMES[target], node, content
        )
    module, _, name = target.rpartition(".")
    if module.startswith("tfp_flows.") and module in sys.modules:
        return content if hasattr(sys.modules[module], name) else None
    return content if not target.startswith("tfp_flows") else None


def keep_together(app, doctree):
    """Numbers and their errors stay on one line."""
    for text in [t for t in doctree.findall(nodes.Text) if " ± " in t]:
        text.parent.replace(text, nodes.Text(text.replace(" ± ", "\u00a0±\u00a0")))


def visit_formula(self, node):
    """Writes a formula as MathML."""
    is_block = isinstance(node, nodes.math_block)
    formula = re.sub(r"\\[bB]igg?[lr]?(?=[^a-zA-Z])", "", node.astext())
    formula = formula.replace(r"\dots", r"\ldots")
    # Between a function's name and its argument, which MathML would join.
    functions = r"(\\(?:log|det|exp|max|min|sin|cos|tanh|Gamma)(?![a-zA-Z]))"
    formula = re.sub(functions + r"\s*(?=[|\\a-zA-Z0-9](?!left))", r"\1\,", formula)
    try:
        text = latex2mathml.tex2mathml(formula, as_block=is_block)
    except Exception as error:
        logging.getLogger(__name__).warning(
            "formula %s: %s", node.astext(), error, location=node
        )
        text = node.astext()
    tag = "div" if is_block else "span"
    self.body.append(f'<{tag} class="formula">{text}</{tag}>')
    raise nodes.SkipNode


def links(name, repository):
    """A sentence that links to where a notebook of a public copy can be run."""
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/notebooks"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?labpath=notebooks"
    install = f'%pip install "tfp_flows[all] @ git+https://github.com/{repository}"'
    return (
        f"Run it on [Binder]({binder}/{name}), or on [Colab]({colab}/{name}) behind a "
        f"first cell `{install}`."
    )


def below_title(content, lines):
    """A notebook, given as bytes, with lines of prose below its title."""
    notebook = json.loads(content)
    title, *rest = "".join(notebook["cells"][0]["source"]).split("\n")
    above = [part for line in lines for part in ("", line)]
    notebook["cells"][0]["source"] = "\n".join([title, *above, *rest])
    return json.dumps(notebook, ensure_ascii=False).encode()


def copy_notebooks():
    """Copies notebooks and their overview; files that did not change stay.

    Those of the Chinese edition are made here, of its prose and the English notebooks.
    """
    source, target = HERE.parent / "notebooks", HERE / "notebooks"
    sys.path.insert(0, str(source))
    translations = importlib.import_module("translate").write(target / "zh")
    chinese = {path.name for path in translations}
    files = [*source.glob("*.ipynb"), source / "README.md"]
    files += source.glob("thumbnails/*.png")
    for old in set(target.rglob("*.*")) - {
        *translations,
        *(target / p.relative_to(source) for p in files),
    }:
        old.unlink()
    for path in files:
        new = target / path.relative_to(source)
        content = path.read_bytes().replace(b"](../README.md", b"](../index.md")
        content = content.replace(b"](../docs/", b"](../")
        lines = []
        if path.name in chinese:
            lines.append(f"[中文](zh/{path.name})")
        if REPOSITORY and path.suffix == ".ipynb":
            lines.append(links(path.name, REPOSITORY))
        if lines:
            content = below_title(content, lines)
        if not new.exists() or new.read_bytes() != content:
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_bytes(content)


def setup(app):
    copy_notebooks()
    app.connect("source-read", list_names)
    app.connect("source-read", list_facts)
    app.connect("source-read", list_papers)
    app.connect("autodoc-process-docstring", as_rst, priority=400)
    app.connect("autodoc-skip-member", skip_inherited)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("missing-reference", resolve)
    app.connect("doctree-read", keep_together)
    app.add_html_math_renderer("mathml", (visit_formula, None), (visit_formula, None))


html_math_renderer = "mathml"
