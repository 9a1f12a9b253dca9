"""Executes the notebooks of the course and stores their outputs.

python notebooks/execute.py              all of them, in order
python notebooks/execute.py 2_coupling   that one
python notebooks/execute.py --quick      small sizes, nothing is stored: a test

Each runs in the Python that runs this script. Exits with an error that names notebook
and cell if a cell raises or warns, if a picture has no alternative text, or if the
files would be too large.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)
from PIL import Image

FOLDER = Path(__file__).parent
SWITCH = "QUICK = False"

# Bytes. Sites that show notebooks give up on large ones.
LARGEST_NOTEBOOK = 5_000_000
LARGEST_COURSE = 25_000_000

_THUMBNAIL_WIDTH = 320
_IMAGE = re.compile(r"<img\b[^>]*>")
_ALT = re.compile(r'\balt="([^"]*)"')
_DATA = re.compile(r"data:[\w/+]+;base64,[\w+/=]+")
_WARNING = re.compile("warning", re.IGNORECASE)
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
# What TensorFlow says of the machine (no GPU, for one) past all its settings.
_LOG = re.compile(
    r"^([IWE]\d{4} [\d:.]+ +\d+ |[\d-]+ [\d:.]+: [IWE] |"
    r"WARNING: All log messages before absl::|"
    r"To enable the following instructions:).*\n?",
    re.MULTILINE,
)
_METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


class NotebookError(Exception):
    """A notebook cannot be run, or its outputs must not be stored."""


def find(names: Sequence[str] = (), folder: Path = FOLDER) -> list[Path]:
    """Files of the notebooks with these names, all by default, in order.

    Raises:
      NotebookError: if there is no notebook of a name.
    """
    files = sorted(folder.glob("*.ipynb"), key=lambda path: (path.stem.find("_"), path))
    known = {path.stem: path for path in files}
    unknown = [name for name in names if Path(name).stem not in known]
    if unknown:
        raise NotebookError(
            f"there is no notebook {', '.join(unknown)}; known are {', '.join(known)}."
        )
    wanted = {Path(name).stem for name in names} or known.keys()
    return [path for stem, path in known.items() if stem in wanted]


def run(
    path: Path, *, quick: bool = False, timeout: float | None = None
) -> nbformat.NotebookNode:
    """Executes a notebook from top to bottom.

    Args:
      path: its file, which stays as it is.
      quick: whether its first cell sets `QUICK` to `True`.
      timeout: seconds that a cell may take.

    Returns:
      The notebook with its outputs.

    Raises:
      NotebookError: at the first cell that raises, warns, takes too long or shows a
        picture without an alternative text.
    """
    notebook = nbformat.read(path, as_version=4)
    numbers = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    if quick:
        first = notebook.cells[numbers[0]]
        if SWITCH not in first.source:
            raise NotebookError(f"{path.name}: the first code cell lacks {SWITCH!r}.")
        first.source = first.source.replace(SWITCH, "QUICK = True")
    # Without folders, the one kernel that is known is that of this very Python.
    specs = KernelSpecManager(kernel_dirs=[])
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs),
        resources={"metadata": {"path": str(path.parent)}},
        timeout=timeout,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
    )
    # The manager is ours, and so is the kernel's end.
    with client.setup_kernel(cleanup_kc=True):
        for i in numbers:
            cell = notebook.cells[i]
            try:
                client.execute_cell(cell, i)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                message = _COLOR.sub("", str(error)).strip()
                raise NotebookError(f"{_place(path, cell)}\n{message}") from None
            cell.outputs = _clean(cell.outputs)
            wrong = complaint(cell)
            if wrong:
                raise NotebookError(f"{_place(path, cell)}\n{wrong}")
    return notebook


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what differs from run to run beside outputs."""
    notebook = copy.deepcopy(notebook)
    notebook.metadata = nbformat.from_dict(_METADATA)
    notebook.nbformat_minor = 5
    for i, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            number = sum(c.cell_type == "code" for c in notebook.cells[: i + 1])
            cell.execution_count = number
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = number
    nbformat.validate(notebook)
    return notebook


def store(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Writes an executed notebook to its file, and its thumbnail beside it.

    Raises:
      NotebookError: if the notebook or the whole course would be too large, or no cell
        with a picture has the tag "thumbnail".
    """
    text = nbformat.writes(tidy(notebook)) + "\n"
    size = len(text.encode())
    if size > LARGEST_NOTEBOOK:
        raise NotebookError(
            f"{path.name} would have {size:,} bytes; its limit is 5 MB."
        )
    others = sum(p.stat().st_size for p in path.parent.glob("*.ipynb") if p != path)
    if others + size > LARGEST_COURSE:
        raise NotebookError(
            f"with {path.name}, the course would have {others + size:,} bytes; its "
            "limit is 25 MB."
        )
    picture = thumbnail(notebook, path.name)
    path.write_text(text, encoding="utf-8")
    folder = path.parent / "thumbnails"
    folder.mkdir(exist_ok=True)
    picture.save(folder / f"{path.stem}.png", optimize=True)


def thumbnail(notebook: nbformat.NotebookNode, name: str) -> Image.Image:
    """The first picture of the cell with the tag "thumbnail", made small.

    Of a film it is the last frame.

    Raises:
      NotebookError: if there is none.
    """
    for cell in notebook.cells:
        if "thumbnail" not in cell.metadata.get("tags", []):
            continue
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            film = re.search(
                r"data:image/gif;base64,([\w+/=]+)", data.get("text/html", "")
            )
            coded = data.get("image/png") or (film and film[1])
            if not coded:
                continue
            picture = Image.open(io.BytesIO(base64.b64decode(coded)))
            picture.seek(getattr(picture, "n_frames", 1) - 1)
            picture = picture.convert("RGB")
            height = round(picture.height * _THUMBNAIL_WIDTH / picture.width)
            small = picture.resize((_THUMBNAIL_WIDTH, height), Image.Resampling.LANCZOS)
            return small.quantize(256, dither=Image.Dither.NONE)
    raise NotebookError(f'{name}: no cell with a picture has the tag "thumbnail".')


def _place(path: Path, cell: nbformat.NotebookNode) -> str:
    line = cell.source.strip().partition("\n")[0]
    return f"{path.name}, cell {cell.id} ({line}):"


def complaint(cell: nbformat.NotebookNode) -> str | None:
    """What is wrong with the outputs of a cell, if anything is."""
    shown = 0
    for output in cell.outputs:
        data = output.get("data", {})
        text = output.get("text") or data.get("text/plain", "")
        page = data.get("text/html", "")
        if output.output_type == "stream" and output.name == "stderr":
            return f"it writes to the error stream:\n{text}"
        if _WARNING.search(text) or _WARNING.search(_DATA.sub("", page)):
            return f"it warns:\n{text}"
        alts = [match[1] for match in map(_ALT.search, _IMAGE.findall(page)) if match]
        if "image/png" in data:
            alts.append(output.metadata.get("image/png", {}).get("alt", ""))
        pictures = len(_IMAGE.findall(page)) + ("image/png" in data)
        shown += pictures
        if len(alts) < pictures or not all(alt.strip(" .") for alt in alts):
            return "a picture has no alternative text: plots.describe gives it one."
        if "animation" in alts:
            return "an animation has no text of its own: plots.describe gives it one."
    if "plots.describe(" in cell.source and not shown:
        return "it describes a picture and shows none: display it, or end with it."
    return None


def _clean(outputs):
    """Outputs without TensorFlow's log; neighbouring pieces of a stream are one."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        same = last is not None and output.output_type == "stream" == last.output_type
        if same and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    for output in joined:
        if output.output_type == "stream" and output.name == "stderr":
            output.text = _LOG.sub("", output.text)
    return [output for output in joined if output.get("text") != ""]


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """The command line for the notebooks of a folder; gives the exit status."""
    parser = argparse.ArgumentParser(
        description="Execute the notebooks of the course and store their outputs."
    )
    parser.add_argument("names", nargs="*", help="notebooks to run, all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, and store nothing"
    )
    options = parser.parse_args(arguments)
    failed = 0
    try:
        paths = find(options.names, folder)
    except NotebookError as error:
        parser.error(str(error))
    for path in paths:
        start = time.perf_counter()
        try:
            notebook = run(path, quick=options.quick)
            if not options.quick:
                store(path, notebook)
        except NotebookError as error:
            failed += 1
            print(error, file=sys.stderr)
        else:
            print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
