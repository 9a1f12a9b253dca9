"""Two-dimensional toy data whose exact density is known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["TOYS", "Toy"]

# Points times quadrature nodes held at once: 4 MiB of float64, which fits a cache.
_CHUNK = 2**19


@dataclass(frozen=True)
class Toy:
    """A two-dimensional distribution to sample from and compare a flow with.

    Points lie roughly within `[-4, 4]` in both directions.

    Example:
      >>> from tfp_flows import datasets
      >>> toy = datasets.TOYS["eight_gaussians"]
      >>> toy.sample(100, seed=0).shape
      (100, 2)
      >>> round(float(toy.log_prob([2.83, 0.0])), 3)
      -1.838

    Attributes:
      name: its key in `TOYS`.
      sample: `sample(n, seed)` draws independent points, float32 `[n, 2]`. The same
        `seed` gives the same points. Raises ValueError for a negative `n`.
      log_prob: `log_prob(x)` of points `x` `[..., 2]` is the exact log-density in nats,
        float64 `[...]`, -inf outside the support. Raises ValueError if the last
        dimension is not 2. None where no exact density is known.
    """

    name: str
    sample: Callable[[int, int], np.ndarray]
    log_prob: Callable[[np.ndarray], np.ndarray] | None


def _toy(name: str, draw: Callable, log_density: Callable) -> Toy:
    """Adds checks, dtypes and leading dimensions to the formulas of a toy."""

    def sample(n: int, seed: int = 0) -> np.ndarray:
        if n < 0:
            raise ValueError(f"n must be 0 or more, got {n}.")
        return draw(np.random.default_rng(seed), n).astype(np.float32)

    def log_prob(x: Any) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        if x.ndim == 0 or x.shape[-1] != 2:
            raise ValueError(f"x must be points [..., 2], got shape {list(x.shape)}.")
        log_p = np.where(np.isnan(x).any(-1), np.nan, -np.inf)
        finite = np.isfinite(x).all(-1)
        with np.errstate(divide="ignore", over="ignore"):
            log_p[finite] = log_density(x[finite])
        return log_p

    return Toy(name, sample, log_prob)


def _logsumexp(terms: np.ndarray) -> np.ndarray:
    """log of the sum of exponentials over the last axis; -inf if all terms are."""
    top = terms.max(-1)
    finite_top = np.where(top == -np.inf, 0.0, top)
    return finite_top + np.log(np.exp(terms - finite_top[..., None]).sum(-1))


def _log_normal(square: np.ndarray, sd: float) -> np.ndarray:
    """Isotropic normal log-density in the plane at a squared distance."""
    return -square / (2 * sd**2) - math.log(2 * math.pi * sd**2)


def _polar(radius: Any, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1)


# Eight Gaussians: equal isotropic normals on a circle, in the size that Grathwohl et
# al. 2018 (FFJORD) use.
_GAUSSIANS_SD = math.sqrt(2) / 4
_GAUSSIANS_CENTERS = _polar(2 * math.sqrt(2), np.arange(8) * math.pi / 4)


def _draw_eight_gaussians(rng: np.random.Generator, n: int) -> np.ndarray:
    centers = _GAUSSIANS_CENTERS[rng.integers(8, size=n)]
    return centers + _GAUSSIANS_SD * rng.standard_normal((n, 2))


def _log_eight_gaussians(x: np.ndarray) -> np.ndarray:
    square = ((x[:, None] - _GAUSSIANS_CENTERS) ** 2).sum(-1)
    return _logsumexp(_log_normal(square, _GAUSSIANS_SD)) - math.log(8)


# Checkerboard: uniform on the eight even squares, two wide, of [-4, 4) x [-4, 4).
def _draw_checkerboard(rng: np.random.Generator, n: int) -> np.ndarray:
    column = rng.integers(4, size=n)
    row = 2 * rng.integers(2, size=n) + column % 2
    # Multiples of 2^-19 are exact in float32, so no point rounds into the next square.
    inside = rng.integers(2**20, size=(n, 2)) / 2**19
    return 2.0 * np.stack([column, row], -1) - 4 + inside


def _log_checkerboard(x: np.ndarray) -> np.ndarray:
    column, row = np.floor(x / 2).T
    even = (column + row) % 2 == 0
    board = ((x >= -4) & (x < 4)).all(-1)
    return np.where(even & board, -math.log(32), -np.inf)


# Circles: two equally likely rings blurred by an isotropic normal. Integrating the
# normal over a ring of radius R gives a Bessel function (Rice 1945):
# N(r; R, sd) I0(r R / sd^2) up to scaling.
_CIRCLES_SD = 0.24
_CIRCLES_RADII = np.array([1.5, 3.0])


def _draw_circles(rng: np.random.Generator, n: int) -> np.ndarray:
    radius = _CIRCLES_RADII[rng.integers(2, size=n)]
    ring = _polar(radius, rng.uniform(0, 2 * math.pi, n))
    return ring + _CIRCLES_SD * rng.standard_normal((n, 2))


def _log_circles(x: np.ndarray) -> np.ndarray:
    from scipy.special import i0e

    r = np.hypot(x[:, 0], x[:, 1])[:, None]
    log_bessel = np.log(i0e(r * _CIRCLES_RADII / _CIRCLES_SD**2))
    square = (r - _CIRCLES_RADII) ** 2
    return _logsumexp(_log_normal(square, _CIRCLES_SD) + log_bessel) - math.log(2)


def _log_blurred_curves(
    x: np.ndarray, curves: np.ndarray, weights: np.ndarray, sd: float
) -> np.ndarray:
    """Log-density of a point on a curve plus isotropic normal noise, by quadrature.

    Args:
      x: points `[N, 2]`.
      curves: quadrature nodes on the curves `[K, 2]`.
      weights: their weights `[K]`, which sum to 1.
      sd: standard deviation of the noise.
    """
    log_weights = np.log(weights)
    chunk = max(1, _CHUNK // len(weights))
    out = np.empty(len(x))
    for start in range(0, len(x), chunk):
        part = x[start : start + chunk, None]
        square = (part[..., 0] - curves[:, 0]) ** 2 + (part[..., 1] - curves[:, 1]) ** 2
        out[start : start + chunk] = _logsumexp(_log_normal(square, sd) + log_weights)
    return out


@functools.cache
def _legendre(nodes: int, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights of an interval."""
    t, w = np.polynomial.legendre.leggauss(nodes)
    return low + (high - low) * (t + 1) / 2, w * (high - low) / 2


# Moons: scikit-learn's two half circles with noise 0.1, centred and doubled. The angle
# is uniform instead of on scikit-learn's grid, so that points are independent.
_MOONS_SD = 0.2


def _moons(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    upper = 2 * _polar(1.0, angle) - (1.0, 0.5)
    return upper, -upper


def _draw_moons(rng: np.random.Generator, n: int) -> np.ndarray:
    upper, lower = _moons(rng.uniform(0, math.pi, n))
    arc = np.where(rng.integers(2, size=(n, 1)) == 0, upper, lower)
    return arc + _MOONS_SD * rng.standard_normal((n, 2))


def _log_moons(x: np.ndarray) -> np.ndarray:
    angle, weight = _legendre(256, 0.0, math.pi)
    weights = np.tile(weight / (2 * math.pi), 2)
    return _log_blurred_curves(x, np.concatenate(_moons(angle)), weights, _MOONS_SD)


# Spirals: two Archimedean spirals of one and a half turns. The square of the angle is
# uniform, which spreads points evenly along the arms.
_SPIRALS_SD = 0.12
_SPIRALS_TURN = 3 * math.pi
_SPIRALS_RADIUS = 4.0


def _spirals(angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    arm = _polar(angle * _SPIRALS_RADIUS / _SPIRALS_TURN, angle)
    return arm, -arm


def _draw_spirals(rng: np.random.Generator, n: int) -> np.ndarray:
    one, other = _spirals(_SPIRALS_TURN * np.sqrt(rng.uniform(size=n)))
    arm = np.where(rng.integers(2, size=(n, 1)) == 0, one, other)
    return arm + _SPIRALS_SD * rng.standard_normal((n, 2))


def _log_spirals(x: np.ndarray) -> np.ndarray:
    angle, weight = _legendre(768, 0.0, _SPIRALS_TURN)
    weights = np.tile(weight * angle / _SPIRALS_TURN**2, 2)
    return _log_blurred_curves(x, np.concatenate(_spirals(angle)), weights, _SPIRALS_SD)


# Pinwheel: five elongated normals twisted into blades, after Johnson et al. 2016. They
# twist by the first coordinate; here by the distance from the origin, which preserves
# areas and makes the density exact.
_PINWHEEL_BLADES = np.arange(5) * 2 * math.pi / 5
_PINWHEEL_SCALE = 2.0
_PINWHEEL_SD = np.array([0.3, 0.1])


def _pinwheel_twist(point: np.ndarray) -> np.ndarray:
    # No blade reaches a radius of 20, and beyond it the exponential would overflow.
    return 0.25 * np.exp(np.minimum(np.hypot(point[..., 0], point[..., 1]), 20.0))


def _rotate(point: np.ndarray, angle: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = point[..., 0], point[..., 1]
    return np.stack([cos * x - sin * y, sin * x + cos * y], -1)


def _draw_pinwheel(rng: np.random.Generator, n: int) -> np.ndarray:
    blade = _PINWHEEL_BLADES[rng.integers(5, size=n)]
    point = (1.0, 0.0) + _PINWHEEL_SD * rng.standard_normal((n, 2))
    return _PINWHEEL_SCALE * _rotate(point, blade + _pinwheel_twist(point))


def _log_pinwheel(x: np.ndarray) -> np.ndarray:
    point = x[:, None] / _PINWHEEL_SCALE
    straight = _rotate(point, -_PINWHEEL_BLADES - _pinwheel_twist(point))
    square = (((straight - (1.0, 0.0)) / _PINWHEEL_SD) ** 2).sum(-1)
    log_volume = math.log(2 * math.pi * _PINWHEEL_SD.prod() * _PINWHEEL_SCALE**2)
    return _logsumexp(-square / 2) - math.log(5) - log_volume


TOYS: dict[str, Toy] = {
    toy.name: toy
    for toy in (
        _toy("moons", _draw_moons, _log_moons),
        _toy("circles", _draw_circles, _log_circles),
        _toy("pinwheel", _draw_pinwheel, _log_pinwheel),
        _toy("checkerboard", _draw_checkerboard, _log_checkerboard),
        _toy("spirals", _draw_spirals, _log_spirals),
        _toy("eight_gaussians", _draw_eight_gaussians, _log_eight_gaussians),
    )
}
