"""Checks of files of weights and models before they are loaded.

Loading a file from an unknown source runs no code. But a small file may declare a flow,
or arrays, that would take all memory. So what it declares is compared with its size.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import h5py
import keras
import numpy as np
import tensorflow as tf

from tfp_flows.training.architecture import Architecture, ArchitectureMismatch

__all__ = ["check_config", "check_file", "check_own", "load_model", "own_variables"]

# Where `FlowModel.save_own_variables` puts the description of the weights.
_KEY = "architecture"

# Uncompressed, a file may have this many bytes plus this many times its size.
_SLACK = 2**26
_RATIO = 20

# Largest events that a configuration may declare: vectors, which networks see whole,
# and images.
_LARGEST = {1: 2**20, 3: 2**24}

# Largest other number in a configuration, if there is no file to compare with.
_LARGEST_NUMBER = 2**16

# Products that a configuration may declare beside a file of S bytes: so many, and so
# many times S. All layers of a flow of vectors hold a weight, of 4 bytes or more, for
# each entry, and all but the first hidden layer of a network the square of their
# width. Convolutions have far fewer weights than an image has entries. The last number
# holds where there is no file to compare with.
_PRODUCTS = {
    "an event of a vector": (2**12, 1, 2**20),
    "vectors times layers": (2**18, 1, 2**22),
    "images times layers": (2**26, 64, 2**30),
    "vectors times width": (2**22, 1, 2**26),
    "images times width": (2**28, 64, 2**31),
    "hidden layers": (2**20, 1, 2**27),
}


def own_variables(architecture: Architecture) -> dict[str, np.ndarray]:
    """The arrays that a model writes in addition to its weights."""
    return {_KEY: np.frombuffer(architecture.to_json().encode(), np.uint8)}


def check_own(architecture: Architecture, store: Mapping[str, Any]) -> None:
    """Raises `ArchitectureMismatch` unless `store` describes the same architecture."""
    if _KEY not in store:
        raise ArchitectureMismatch("the file holds no weights of a FlowModel.")
    architecture.check(np.asarray(store[_KEY]).tobytes(), "the file")


def load_model(path: str | os.PathLike, **kwargs: Any) -> keras.Model:
    """Like `keras.models.load_model`, but safe for files from unknown sources.

    Args:
      path: a `.keras` file.
      **kwargs: further arguments of `keras.models.load_model`.

    Returns:
      The model.

    Raises:
      ValueError: if the file declares a model that is far larger than the file. No
        memory is taken for it before.
      OSError: if the file cannot be read.

    Example:
      >>> import os, tempfile, tfp_flows
      >>> flow = tfp_flows.flows.real_nvp((2,), layers=2, width=4, seed=0)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = os.path.join(folder, "flow.keras")
      ...     tfp_flows.FlowModel(flow).save(path)
      ...     model = load_model(path)
      >>> model.flow.event_shape
      TensorShape([2])
    """
    check_file(path)
    with _limited_variables(Path(path).stat().st_size):
        return keras.models.load_model(path, **kwargs)


@contextlib.contextmanager
def _limited_variables(size: int) -> Iterator[None]:
    """A context that stops the creation of variables far larger than a file's size."""
    limit, made = _SLACK + _RATIO * size, 0

    def create(next_creator, **kwargs):
        nonlocal made
        variable = next_creator(**kwargs)
        made += (variable.shape.num_elements() or 0) * variable.dtype.size
        if made > limit:
            raise ValueError(
                f"the flow takes more than {limit / 1e9:.3g} GB, and its file has "
                f"{size / 1e9:.3g} GB: it is damaged or made to fill the memory."
            )
        return variable

    with tf.variable_creator_scope(create):
        yield


def check_file(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Raises an error if a file cannot be read, or declares far more than its size.

    Args:
      path: a file that ends in `.weights.h5`, `.weights.json` (Keras's shards) or
        `.keras`.

    Returns:
      The `own_variables` of the model that wrote it.

    Raises:
      ValueError: on another ending, or if the file declares far more than its size.
      OSError: if it cannot be read.
    """
    path = Path(path)
    try:
        if path.name.endswith(".weights.h5"):
            return _read_weights(path)
        if path.name.endswith(".weights.json"):
            shards = json.loads(path.read_text())["weight_map"]
            names = {
                name
                for part in shards.values()
                for name in ([part] if isinstance(part, str) else part)
            }
            found = [_read_weights(path.parent / name) for name in sorted(names)]
            return {k: v for group in found for k, v in group.items()}
        if path.suffix == ".keras":
            return _read_archive(path)
    except (
        OSError,
        KeyError,
        AttributeError,
        json.JSONDecodeError,
        zipfile.BadZipFile,
    ) as error:
        raise OSError(f"{path} is not a readable file of weights: {error}") from error
    raise ValueError(
        f"{path.name} must end in .weights.h5, .weights.json or .keras to be read."
    )


def _read_archive(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        declared = sum(info.file_size for info in archive.infolist())
        _check_size(path.name, declared, size)
        with archive.open("config.json") as file:
            config = json.loads(file.read())
        flow = (config.get("config") or {}).get("flow")
        if config.get("registered_name") != "tfp_flows>FlowModel":
            flow = None
        if flow:
            check_config(flow, size)
        with archive.open("model.weights.h5") as file:
            own = _read_weights(file, path.name)
        if flow and _KEY in own:
            _check_agreement(flow, own[_KEY].tobytes(), path.name)
        return own


def _check_agreement(config: Mapping[str, Any], text: bytes, name: str) -> None:
    """Compares the configuration of a flow with the description of its weights."""
    try:
        recorded = json.loads(text)["config"]
    except (ValueError, KeyError, TypeError):
        # `check_own` says what is wrong.
        return
    for key in sorted(config.keys() & recorded.keys()):
        # What is nested is described without names.
        here, there = config[key], recorded[key]
        if _is_plain(here) and _is_plain(there) and here != there:
            raise ValueError(
                f"{name} is damaged or made up: {key} is {here!r} in its "
                f"configuration, but its weights are those of {there!r}."
            )


def _is_plain(value: Any) -> bool:
    parts = value if isinstance(value, list) else [value]
    return all(isinstance(p, (bool, int, float, str, type(None))) for p in parts)


def _read_weights(file: Any, name: str | None = None) -> dict[str, np.ndarray]:
    """The `own_variables` in an HDF5 file, after a check of the sizes of its arrays."""
    with h5py.File(file, "r") as opened:
        declared, stored = 0, 0

        def add(_, part):
            nonlocal declared, stored
            if isinstance(part, h5py.Dataset):
                declared += part.nbytes
                stored += part.id.get_storage_size()

        opened.visititems(add)
        _check_size(name or Path(file).name, declared, stored)
        return {k: np.asarray(v) for k, v in opened.get("vars", {}).items()}


def _check_size(name, declared, stored):
    if declared > _SLACK + _RATIO * stored:
        raise ValueError(
            f"{name} declares {declared / 1e9:.3g} GB, of which {stored / 1e9:.3g} GB "
            "are stored: it is damaged or made to fill the memory."
        )


def check_config(config: Mapping[str, Any], size: int | None = None) -> None:
    """Raises an error if the configuration of a flow declares too large a flow.

    Args:
      config: arguments of a ready flow.
      size: bytes of the file with its weights, in proportion to which the flow may be
        large; `None` if there is no such file.

    Raises:
      ValueError: if an argument is too large; the message names it.
    """
    event = config.get("event_shape")
    numbers = [n for n in event if isinstance(n, int)] if _is_list(event) else []
    limit = _LARGEST.get(len(numbers), _LARGEST[3])
    if math.prod(numbers) > limit:
        _refuse("event_shape", event, limit, "entries")
    limit = _LARGEST_NUMBER if size is None else 4096 + size // 64
    # Only that of the flow itself may be larger: networks inside have one, too.
    others = {k: v for k, v in config.items() if k != "event_shape"}
    for name, number in _integers(others):
        if number > limit:
            _refuse(name, number, limit, "")
    _check_products(config, math.prod(numbers), len(numbers) == 1, size)


def _check_products(
    config: Mapping[str, Any], entries: int, is_vector: bool, size: int | None
) -> None:
    """Raises an error if products of numbers in a configuration are too large."""
    layers = _number(config, "layers") * _number(config, "steps")
    width, depth = _number(config, "width"), _number(config, "depth")
    kind = "vectors" if is_vector else "images"
    found = [
        (
            "the product of event_shape and layers",
            f"{kind} times layers",
            entries * layers,
        ),
        (
            "the product of event_shape and width",
            f"{kind} times width",
            entries * width,
        ),
        (
            "the product of width, depth and layers",
            "hidden layers",
            (depth - 1) * width**2 * layers,
        ),
    ]
    if is_vector:
        found.append(("event_shape", "an event of a vector", entries))
    for name, product, value in found:
        least, ratio, alone = _PRODUCTS[product]
        limit = alone if size is None else least + ratio * size
        if value > limit:
            _refuse(name, value, limit, "")
    for part in config.values():
        if isinstance(part, Mapping):
            _check_products(part, entries, is_vector, size)


def _number(config: Mapping[str, Any], name: str) -> int:
    """An option, or the sum of a list of them; 1 if it is not given."""
    value = config.get(name)
    parts = [n for n in (value if _is_list(value) else [value]) if isinstance(n, int)]
    return max(1, sum(parts))


def _is_list(part: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(part, (list, tuple))


def _refuse(name, value, limit, what):
    raise ValueError(
        f"{name} is {value} in the configuration of the flow, more than the {limit} "
        f"{what} that such a file may declare. To load weights of so large a flow, "
        "build it in code and call load_weights.".replace("  ", " ")
    )


def _integers(part: Any, name: str = "config") -> Iterator[tuple[str, int]]:
    """All integers of a configuration but seeds, with their names."""
    if isinstance(part, Mapping):
        for key, value in part.items():
            if key != "seed":
                yield from _integers(value, str(key))
    elif _is_list(part):
        for value in part:
            yield from _integers(value, name)
    elif isinstance(part, int) and not isinstance(part, bool):
        yield name, part
