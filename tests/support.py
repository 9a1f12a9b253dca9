"""What tests of all parts of the package share."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import pytest
import tensorflow as tf

__all__ = [
    "close",
    "close_nests",
    "close_relatively",
    "close_to_largest",
    "fast_and_slow",
    "load_script",
    "normal",
    "perturb",
    "softplus",
]

Module = TypeVar("Module")


def close(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    """Asserts that all numbers agree, up to a relative or absolute tolerance."""
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def close_nests(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    """As `close`, for nested structures of tensors, which have to be the same ones."""
    tf.nest.assert_same_structure(a, b)
    for one, other in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
        close(one, other, tolerance)


def close_relatively(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    """As `close`, but up to a relative tolerance alone: a zero has to be one."""
    np.testing.assert_allclose(a, b, rtol=tolerance)


def close_to_largest(a: Any, b: Any, tolerance: float = 1e-9) -> None:
    """As `close`, relative to the largest number of `b`, or to one, if that is more."""
    scale = max(1.0, np.abs(b).max())
    np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance)


def softplus(x: Any) -> Any:
    """$\\ln(1 + e^x)$, without overflow."""
    return np.logaddexp(0.0, x)


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> tf.Tensor:
    """Standard normal numbers, the same at every call and in every dtype."""
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def perturb(
    module: Module, scale: float = 0.2, seed: int = 7, match: str = ""
) -> Module:
    """Moves what was built away from the special point at which it starts.

    Args:
      module: a flow, bijector, distribution or layer; or a list of variables.
      scale: standard deviation of the noise that is added.
      seed: of the noise.
      match: variables whose name (path, in Keras) does not contain it stay.

    Returns:
      `module` itself.
    """
    draw = np.random.default_rng(seed)
    for v in getattr(module, "trainable_variables", module):
        if match in getattr(v, "path", v.name):
            noise = scale * draw.standard_normal(v.shape)
            v.assign_add(noise.astype(tf.as_dtype(v.dtype).as_numpy_dtype))
    return module


def fast_and_slow(values, *fast):
    """Parameters of a test, of which those that are not among the fast are slow."""
    return [
        pytest.param(v, marks=() if v in fast else pytest.mark.slow) for v in values
    ]


def load_script(path: Path) -> ModuleType:
    """A script that belongs to no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
